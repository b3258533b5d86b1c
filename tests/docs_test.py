"""The documentation says what the code does."""

import ast
import pathlib
import re

import tensorflow as tf

ROOT = pathlib.Path(__file__).parent.parent


class EquationsTest(tf.test.TestCase):
    def test_each_equation_names_a_line_of_the_code(self):
        text = (ROOT / "docs" / "sac.md").read_text()
        rows = re.findall(r"\| `(\w+\.py)` `(\w+)` \| `(.+?)` \|$", text, re.M)
        self.assertLen(rows, 9)
        for file, function, line in rows:
            source = (ROOT / "tfsac" / file).read_text()
            bodies = {
                node.name: ast.get_source_segment(source, node)
                for node in ast.walk(ast.parse(source))
                if isinstance(node, ast.FunctionDef)
            }
            self.assertIn(line, bodies[function], msg=f"{file} {function}")

    def test_each_logged_key_has_a_formula(self):
        text = (ROOT / "docs" / "sac.md").read_text()
        section = text.split("## What the logs mean")[1].split("\n## ")[0]
        documented = re.findall(r"^\| `(\w+)` \|", section, re.M)
        self.assertCountEqual(
            documented,
            "loss critic_loss actor_loss temperature_loss alpha entropy q_mean "
            "episode_return episode_length env_steps steps_per_second "
            "val_episode_return".split(),
        )


if __name__ == "__main__":
    tf.test.main()
