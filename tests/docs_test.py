"""The documentation says what the code does."""

import ast
import pathlib
import re

import tensorflow as tf
from absl.testing import parameterized

from tfsac import tabular

ROOT = pathlib.Path(__file__).parent.parent
MAXIMUM_ENTROPY = ROOT / "docs" / "maximum-entropy.md"
# Tests in which an agent uses the function, not the test itself.
WHOLE_AGENT = (
    "SACTest::test_it_finds_the_optimum",
    "BimodalTest::test_the_density_is_exact_but_for_a_tenth",
    "ReferenceTest::test_updates_equal_the_float64_reference",
    "TargetEntropyTest::test_it_is_minus_a_or_half_of_log_n",
    "ActTest::test_densities_are_those_of_the_energy",
    "OptimumTest::test_value_and_policy_are_those_of_tabular",
)


class EquationsTest(parameterized.TestCase, tf.test.TestCase):
    @parameterized.parameters(("sac.md", 12), ("sql.md", 11))
    def test_each_equation_names_a_line_of_the_code(self, document, count):
        text = (ROOT / "docs" / document).read_text()
        rows = re.findall(r"\| `(\w+\.py)` `(\w+)` \| `(.+?)` \|$", text, re.M)
        self.assertLen(rows, count)
        for file, function, line in rows:
            source = (ROOT / "tfsac" / file).read_text()
            bodies = {
                node.name: ast.get_source_segment(source, node)
                for node in ast.walk(ast.parse(source))
                if isinstance(node, ast.FunctionDef)
            }
            self.assertIn(line, bodies[function], msg=f"{file} {function}")

    @parameterized.parameters(
        (
            "sac.md",
            "loss critic_loss actor_loss temperature_loss alpha entropy q_mean "
            "episode_return episode_length env_steps steps_per_second "
            "env_restarts "
            "val_episode_return",
        ),
        (
            "sql.md",
            "loss critic_loss stein_gradient alpha entropy q_mean value_mean",
        ),
    )
    def test_each_logged_key_has_a_formula(self, document, keys):
        text = (ROOT / "docs" / document).read_text()
        section = text.split("## What the logs mean")[1].split("\n## ")[0]
        documented = re.findall(r"^\| `(\w+)` \|", section, re.M)
        self.assertCountEqual(documented, keys.split())

    def test_each_equation_of_maximum_entropy_has_a_function_and_a_test(self):
        text, _ = MAXIMUM_ENTROPY.read_text().split("\n## The claims")
        pattern = r"^\| .+ \| `(\w+\.py)` `(\w+)` \| `(\w+\.py)::(.+)` \|$"
        rows = re.findall(pattern, text, re.M)
        headers = text.count("| equation |")
        lines = re.findall(r"^\|.*\|$", text, re.M)
        self.assertLen(rows, len(lines) - 2 * headers)
        for file, function, test_file, test in rows:
            self.assertIn(function, _definitions(ROOT / "tfsac" / file))
            names = test.split("::")
            defined = _definitions(ROOT / "tests" / test_file)
            self.assertContainsSubset(names, defined, msg=test)
            if test not in WHOLE_AGENT:
                source = _without_other_tests(ROOT / "tests" / test_file, test)
                self.assertRegex(source, rf"\b{function}\b", msg=test)
        functions = {name for file, name, *_ in rows if file == "tabular.py"}
        self.assertSameElements(functions, set(tabular.__all__) - {"MDP"})

    def test_each_claim_of_maximum_entropy_has_a_command_and_a_figure(self):
        _, text = MAXIMUM_ENTROPY.read_text().split("\n## The claims")
        commands = re.findall(r"`python (examples/claims/(\w+)\.py)", text)
        figures = re.findall(r"^!\[.+\]\(claims/(\w+)\.png\)$", text, re.M)
        names = [name for _, name in commands]
        self.assertEqual(names, ["tuning", *figures])
        self.assertLen(figures, text.count("\n### "))
        for path, name in commands:
            self.assertTrue((ROOT / path).exists(), msg=path)
            for kind in ("csv", "png") if name in figures else ("csv",):
                file = ROOT / "docs" / "claims" / f"{name}.{kind}"
                self.assertTrue(file.exists(), msg=file)


def _without_other_tests(path, test):
    """A test with all that it may use of its module, without other tests."""
    source = path.read_text()
    lines = source.splitlines()
    for group in ast.parse(source).body:
        for node in group.body if isinstance(group, ast.ClassDef) else []:
            name = getattr(node, "name", "")
            if name.startswith("test_") and f"{group.name}::{name}" != test:
                count = node.end_lineno - node.lineno + 1
                lines[node.lineno - 1 : node.end_lineno] = [""] * count
    return "\n".join(lines)


def _definitions(path):
    """The names of the functions and classes in a file."""
    return {
        node.name
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef | ast.ClassDef)
    }


if __name__ == "__main__":
    tf.test.main()
