"""The project's own rules, as tests over its files."""

import ast
import dataclasses
import inspect
import operator
import pathlib
import re
import subprocess
import sys

import tensorflow as tf
from absl.testing import parameterized

import tfsac

ROOT = pathlib.Path(__file__).parent.parent
PYTHON = sorted(
    path
    for folder in ("tfsac", "tests", "examples", "benchmarks")
    for path in (ROOT / folder).rglob("*.py")
)
CPP = sorted(
    path
    for path in (ROOT / "kernels").iterdir()
    if path.suffix in (".cc", ".h")
)
MAX_LINES = 400
MAX_TEST_LINES = 600

MODEL = ROOT / "saved_models" / "pendulum_v1" / "1"
# What Keras calls, and documents the arguments of.
KERAS_HOOKS = {
    "build",
    "call",
    "compile_from_config",
    "get_compile_config",
    "get_config",
    "load_own_variables",
    "save_own_variables",
}
# The options with which each example takes seconds.
EXAMPLES = {
    "act_from_saved_model.py": "{model} Pendulum-v1 --episodes 1",
    "own_loop.py": "--steps 300",
    "quickstart.py": "--steps 1050 --episodes 1 --threshold -2000",
    "train.py": "--steps 1100 --episodes 1",
}
# Makes `fit` short in the README's snippets, which take no options.
SHORT_FIT = """
import tfsac
fit = tfsac.SAC.fit
short = dict(epochs=1, steps_per_epoch=1_050, validation_episodes=1)
tfsac.SAC.fit = lambda agent, **options: fit(agent, **(options | short))
"""


class ImportsTest(tf.test.TestCase):
    """TensorFlow's public API and Keras 3 only."""

    def test_no_private_tensorflow_and_no_old_keras(self):
        banned = re.compile(r"(tensorflow|tf)\.(python|keras)\b|tf_keras\b")
        found = [
            f"{path.relative_to(ROOT)}:{node.lineno} {name}"
            for path in PYTHON
            for node in ast.walk(ast.parse(path.read_text()))
            for name in _names(node)
            if banned.match(name)
        ]
        self.assertEmpty(found)

    def test_no_assert_in_the_library(self):
        found = [
            f"{path.relative_to(ROOT)}:{node.lineno}"
            for path in PYTHON
            if path.is_relative_to(ROOT / "tfsac")
            for node in ast.walk(ast.parse(path.read_text()))
            if isinstance(node, ast.Assert)
        ]
        self.assertEmpty(found)

    def test_rooms_know_no_more_than_they_may(self):
        for name, banned in {
            "env": ("tensorflow", "keras", "tfsac.sac", "tfsac.agent"),
            "replay": ("tfsac.sac", "tfsac.agent", "tfsac.env", "keras"),
            "sac": ("keras", "gymnasium", "tfsac.env", "tfsac.agent"),
            "sql": ("keras", "gymnasium", "tfsac.env", "tfsac.agent"),
            "tabular": ("tensorflow", "keras", "gymnasium", "tfsac.sac"),
            "mdp": ("tensorflow", "keras", "gymnasium", "tfsac"),
        }.items():
            tree = ast.parse((ROOT / "tfsac" / f"{name}.py").read_text())
            imports = [
                imported
                for node in ast.walk(tree)
                if isinstance(node, ast.Import | ast.ImportFrom)
                for imported in _names(node)
            ]
            wrong = [i for i in imports if i.startswith(banned)]
            self.assertEmpty(wrong, msg=f"imported by tfsac/{name}.py")

    def test_the_server_knows_nothing_of_agents(self):
        found = [
            f"{path.name}: {name}"
            for path in (ROOT / "tfsac" / "serving").glob("*.py")
            for node in ast.walk(ast.parse(path.read_text()))
            if isinstance(node, ast.Import | ast.ImportFrom)
            for name in _names(node)
            if re.match(
                r"keras|gymnasium|tfsac(?!\.serving|\.tensor_bundle$)", name
            )
        ]
        self.assertEmpty(found)


def _names(node):
    """The dotted names that a node imports or reads."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        return [f"{node.module}.{alias.name}" for alias in node.names]
    if isinstance(node, ast.Attribute):
        return [ast.unparse(node)]
    return []


class SizeTest(tf.test.TestCase):
    def test_files_are_short_enough_to_read(self):
        too_long = {}
        for path in PYTHON + CPP:
            lines = len(path.read_text().splitlines())
            is_test = path.stem.endswith("_test")
            if lines > (MAX_TEST_LINES if is_test else MAX_LINES):
                too_long[str(path.relative_to(ROOT))] = lines
        self.assertEmpty(too_long)


class DocumentationTest(parameterized.TestCase, tf.test.TestCase):
    @parameterized.parameters(
        *tfsac.__all__, *(f"tabular.{name}" for name in tfsac.tabular.__all__)
    )
    def test_public_symbol_is_documented(self, name):
        symbol = operator.attrgetter(name)(tfsac)
        doc = inspect.getdoc(symbol)
        self.assertTrue(doc, msg=f"{name} has no docstring")
        if inspect.ismodule(symbol):
            return
        if inspect.isfunction(symbol):
            self._check_arguments(name, symbol)
        elif hasattr(symbol, "_fields"):  # a NamedTuple
            for field in symbol._fields:
                self.assertIn(f"`{field}`", doc)
        else:
            if "__init__" in vars(symbol):  # documented by the class
                self._check_arguments(name, symbol)
            self._check_members(symbol)

    def _check_members(self, class_):
        for name, member in vars(class_).items():
            if name.startswith("_") or not (
                isinstance(member, property) or inspect.isfunction(member)
            ):
                continue
            name_ = f"{class_.__name__}.{name}"
            self.assertTrue(member.__doc__, msg=f"{name_} has no docstring")
            if inspect.isfunction(member) and name not in KERAS_HOOKS:
                self._check_arguments(name_, member)

    def _check_arguments(self, name, function):
        doc = inspect.getdoc(function)
        if dataclasses.is_dataclass(function):  # which inherits arguments
            doc = "\n".join(map(inspect.getdoc, function.__mro__))
        signature = inspect.signature(function)
        for argument in signature.parameters.values():
            variadic = (argument.VAR_POSITIONAL, argument.VAR_KEYWORD)
            if argument.name != "self" and argument.kind not in variadic:
                self.assertRegex(
                    doc,
                    rf"(?m)^    {argument.name}: ",
                    msg=f"{name} does not document {argument.name}",
                )
        returns = signature.return_annotation
        if returns not in (inspect.Signature.empty, None):
            self.assertRegex(doc, r"(^|\n)Returns", msg=name)

    @parameterized.parameters("promises.md", "reliability.md")
    def test_what_is_promised_names_tests_that_exist(self, name):
        text = (ROOT / "docs" / name).read_text()
        tables = re.findall(
            r"(?m)^\|.*\| shown by \|\n\|[-| ]+\|\n((?:\|.*\|\n)+)", text
        )
        rows = "".join(tables).splitlines()
        self.assertNotEmpty(rows)
        for row in rows:
            proofs = re.findall(r"`([^`]+)`", row.split("|")[-2])
            self.assertNotEmpty(proofs, msg=f"no test or command: {row}")
            for proof in proofs:
                if not proof.startswith("tests/"):
                    commands = r"(make|tfsac|python) |\.ci/run"
                    self.assertRegex(proof, commands, msg=row)
                    continue
                path, *names = proof.split("::")
                self.assertTrue((ROOT / path).exists(), msg=proof)
                defined = _definitions(ROOT / path)
                self.assertContainsSubset(names, defined, msg=proof)


def _definitions(path):
    kinds = ast.FunctionDef | ast.ClassDef
    tree = ast.parse(path.read_text()) if path.suffix == ".py" else ast.Module()
    return {node.name for node in ast.walk(tree) if isinstance(node, kinds)}


class ExamplesTest(parameterized.TestCase, tf.test.TestCase):
    """What the documentation tells to run, runs; in a process of its own."""

    def _run(self, *args):
        process = subprocess.run(
            [sys.executable, *map(str, args)],
            cwd=self.get_temp_dir(),
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
        )
        self.assertEqual(process.returncode, 0, msg=process.stderr[-4000:])
        return process.stdout

    def test_each_example_is_tested(self):
        examples = [path.name for path in (ROOT / "examples").glob("*.py")]
        self.assertSameElements(EXAMPLES, examples)

    @parameterized.parameters(*EXAMPLES.items())
    def test_example(self, name, options):
        options = options.format(model=MODEL)
        output = self._run(ROOT / "examples" / name, *options.split())
        self.assertIn("return", output)

    def test_readme(self):
        text = (ROOT / "README.md").read_text()
        snippets = re.findall(r"(?s)```python\n(.*?)```", text)
        self.assertNotEmpty(snippets)
        self._run("-c", SHORT_FIT + "\n".join(snippets))


if __name__ == "__main__":
    tf.test.main()
