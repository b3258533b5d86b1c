"""Builds a C++ program against this process's TensorFlow."""

import subprocess

import tensorflow as tf


def build(source, program, *flags):
    """Compiles one file by g++."""
    folder = tf.sysconfig.get_lib()
    subprocess.run(
        [
            *("g++", "-std=c++17", "-O0", "-Wall", "-Wextra", "-Werror"),
            *(source, "-o", program, *flags, "-isystem", f"{folder}/include"),
            *(f"-L{folder}", "-Wl,--no-as-needed"),
            "-l:libtensorflow_cc.so.2",
            "-l:libtensorflow_framework.so.2",
            f"-Wl,-rpath,{folder}",
        ],
        check=True,
    )
