"""Files as somebody would make them who means harm: checksums are right."""

import hashlib
import io
import json
import zipfile

import h5py

from tfsac.manifest import encode

CONFIG, WEIGHTS = "config.json", "model.weights.h5"


def rewrite(path, change, **options):
    """Writes an archive anew, with its members changed."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    change(members)
    with zipfile.ZipFile(path, "w", **options) as archive:
        for name, content in members.items():
            archive.writestr(name, content)


def edit_config(path, edit):
    def change(members):
        config = json.loads(members[CONFIG])
        edit(config)
        members[CONFIG] = json.dumps(config)

    rewrite(path, change)


def edit_weights(path, edit):
    def change(members):
        buffer = io.BytesIO(members[WEIGHTS])
        with h5py.File(buffer, "a") as file:
            edit(file)
        members[WEIGHTS] = buffer.getvalue()

    rewrite(path, change)


def edit_manifest(path, edit):
    """Has a checkpoint say something else."""
    content = json.loads(path.read_text())["content"]
    edit(content)
    path.write_bytes(encode(content))


def replace_file(path, content):
    """Puts another file into a checkpoint, whose manifest agrees."""
    path.write_bytes(content)
    digest = hashlib.sha256(content).hexdigest()
    agree_to(path, len(content), digest)


def agree_to(path, size, digest):
    """Has the manifest of a checkpoint's file say that it is right."""
    name = path.name
    if path.suffix == ".index":
        name = f"replay/{name}"
        path = path.parent.parent / path.name
    edit_manifest(
        path.with_suffix(".json"),
        lambda content: content["files"].update(
            {name: {"bytes": size, "sha256": digest}}
        ),
    )
