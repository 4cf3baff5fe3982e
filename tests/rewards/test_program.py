"""Which program an answer holds: every answer below is run as plain Python, and has to do what was asked."""

from __future__ import annotations

import contextlib
import io
import sys
import textwrap
import time
from typing import Any

import pytest

from omnithink_pl.rewards.program import extract_program, names_under_test
from omnithink_pl.types import UnitTests

NEXT = UnitTests(functional="def check(candidate):\n    assert candidate(1) == 2\ncheck(f)", entry_point="f")
UNNAMED = UnitTests(functional="assert f(1) == 2")
METHOD = UnitTests(functional="assert Solution().f(1) == 2", entry_point="Solution().f")
DOUBLED = UnitTests(inputs=("3\n", "4\n"), outputs=("6", "8"))

F = "def f(x):\n    return x + 1"
BLOCK = f"```python\n{F}\n```"

FUNCTIONS = {
    "no fence": F,
    "no fence, indented": textwrap.indent(F, "    "),
    "prose around": f"Here it is.\n\n{BLOCK}\n\nIt adds one.",
    "tildes": f"~~~python\n{F}\n~~~",
    "tildes around backticks": f"~~~~md\n{BLOCK}\n~~~~",
    "no language": f"```\n{F}\n```",
    "other spellings of the language": f"``` Python3 title=f.py\n{F}\n```",
    "unclosed": f"Sure:\n```python\n{F}",
    "unclosed before prose": f"```python\n{F}\n\nThis function adds one.",
    "no fence, in prose": f"Here is the function:\n\n{F}\n\nIt adds one to x.",
    "indented code of Markdown": "The code:\n\n" + textwrap.indent(F, "    "),
    "unclosed before another": f"```python\n{F}\n\n```python\nprint(f(1))\n```",
    "closed at the end of a line": f"```python\n{F}```",
    "closed at the end of a line, then prose and usage": f"```python\n{F}```\nUse:\n```python\nprint(f(1))\n```",
    "closed by another fence": f"````python\n{F}\n```",
    "prose behind both fences": f"Code: ```python\n{F}``` and so on.",
    "opened at the end of prose": f"The function: ```python\n{F}\n```\nIt adds one.",
    "code behind the language": f"```python {F}\n```",
    "one line": "```python def f(x): return x + 1```",
    "no empty line behind the prose": f"Here is the function:\n{F}\n\n\ndef g():\n    pass\n\nIt adds one to x.",
    "inline code": "`def f(x): return x + 1`",
    "CRLF": f"Here:\n{BLOCK}\nDone.".replace("\n", "\r\n"),
    "byte order mark": f"\ufeff{F}",
    "list item": "1. Write it:\n\n" + textwrap.indent(BLOCK, "   ") + "\n2. Call it.",
    "list item with two blanks a level": "1. So:\n   ```python\n   def f(x):\n     if x:\n       return x + 1\n   ```",
    "on the list item's line": "- ```python\n" + textwrap.indent(F, "  ") + "\n  ```",
    "quotation": textwrap.indent(BLOCK, "> ", lambda _: True),
    "indented inside the fence only": "```python\n" + textwrap.indent(F, "    ") + "\n```",
    "longer fence": f"````python\n{F}\n````",
    "nested": f"````markdown\n# Answer\n{BLOCK}\n````",
    "nested with the same fence": f"```markdown\nHere:\n{BLOCK}\n```",
    "backticks in a docstring": '```python\ndef f(x):\n    """Add.\n\n    ```\n    f(1)\n    ```\n    """\n'
    "    return x + 1\n```",
    "backticks in a docstring without a fence": f'{F}\n\ndef g():\n    """\n    ```python\n    f(1)\n    ```\n    """',
    "fence in a string": f"```python\n{F}\n\nMARK = '```'\n```",
    "fence at the end of a comment": f"```python\n{F}\nY = 1  # not ```\n```\n```text\n2\n```",
    "text at the margin in a list item": '- So:\n  ```python\n  def f(x):\n      """\nAdd.\n  """\n'
    "      return x + 1\n  ```",
    "last is usage": f"{BLOCK}\nUse it so:\n```python\nprint(f(1))\n```",
    "last imports it": f"{BLOCK}\n```python\nfrom solution import f\nassert f(1) == 2\n```",
    "last is output": f"{BLOCK}\nIt prints\n```\n2\n```",
    "last is a transcript": f"{BLOCK}\n```\n>>> f(1)\n2\n```",
    "last is a command": f"```bash\npip install nothing\n```\n{BLOCK}\n```bash\npython f.py\n```",
    "last is a signature": f"{BLOCK}\nIts signature is\n```python\ndef f(x): ...\n```",
    "last is another language": f"{BLOCK}\nIn C:\n```c\nint f(int x) {{ return x + 1; }}\n```",
    "last does not compile": f"{BLOCK}\nNot so:\n```python\ndef f(x) return x\n```",
    "improved": f"First:\n```python\ndef f(x):\n    return x\n```\nBetter:\n{BLOCK}",
    "import apart": "```python\nimport operator\n```\nThen\n```python\ndef f(x):\n    return operator.add(x, 1)\n```",
    "helper before": "```python\ndef g(x):\n    return x + 1\n```\n```python\ndef f(x):\n    return g(x)\n```",
    "helper after": "```python\ndef f(x):\n    return g(x)\n```\nwhere\n```python\ndef g(x):\n    return ONE + x\n"
    "ONE = 1\n```",
    "title": f"```python f.py\n{F}\n```",
    "future import behind a helper": "```python\nONE = 1\n```\n```python\nfrom __future__ import annotations\n"
    "def f(x: Missing): return x + ONE\n```",
    "cut in the middle": "```python\ndef f(x):\n```\ncontinued\n```python\n    return x + 1\n```",
    "bound otherwise": "```python\nfrom operator import neg\nf = lambda x: -neg(x) + 1\n```\n```python\nf(1)\n```",
    "defined in a branch": "```python\nif True:\n    def f(x): return x + 1\n```\n```python\nprint(f(2))\n```",
    "a closing fence alone": f"{F}\n```",
    "a closing fence alone, behind prose and before it": f"Here it is:\n\n{F}\n```\n\nThis adds one.",
    "a closing fence alone, then usage": f"{F}\n```\n\nUse it so:\n```python\nprint(f(1))\n```\nIt prints\n```\n2\n```",
    "no fence, then output in one": f"{F}\n\nprint(f(1))\n\nIt prints\n```\n2\n```",
    "closed at the end of a line alone, then prose": f"{F}```\nThis adds one.",
    "no fence, then a better one in a fence": f"def f(x):\n    return x\n\nBetter so:\n{BLOCK}",
    "import before the fence": "import operator\n```python\ndef f(x):\n    return operator.add(x, 1)\n```",
    "the language alone": f"python\n{F}",
    "the language alone, closed": f"Python3\n\n{F}\n```",
    "the language in the line behind the fence": f"```\npython\n{F}\n```",
    "tags": f"<code>\n{F}\n</code>",
    "tags in prose": f"Here it is:\n<python>{F}</python>\nThis adds one.",
    "tags with attributes in tags": f'<pre>\n<code class="python">\n{F}\n</code>\n</pre>',
    "tags in a fence": f"```python\n<code>\n{F}\n</code>\n```",
    "tags around a fence": f"<code>\n{BLOCK}\n</code>",
    "unclosed tag": f"<code>{F}",
    "usage in tags too": f"<code>\n{F}\n</code>\nUse:\n<code>\nprint(f(1))\n</code>",
    "a blank before the first line": f" import operator\n\n{F}",
    "prose at once behind": f"{F}\nThis function adds one to x.",
    "list behind": f"{F}\n\n**Explanation:**\n\n- The `f` adds one.\n- **Time:** O(1)\n\n1. It adds.\n2. `x` is it.",
    "headings": f"**Solution:**\n\n{F}\n\n---\n\nExplanation: The function adds one.\n\nTime Complexity: O(1)",
    "exclamation": f"Sure! Here\u2019s the function:\n\n{F}\n\nNote: this adds one.",
    "usage and output without fences": f"{F}\n\nExample usage:\n\nprint(f(1))\n\nOutput:\n\n[2]",
    "wrapped prose between": "def f(x):\n    return g(x)\n\nIt needs a helper that adds\none to x:\n\ndef g(x):\n"
    "    return x + 1",
    "a second try without fences": f"def f(x):\n    return x\n\nThis is wrong. It should be\n\n{F}",
    "escapes that Python warns of": '```python\nP = "\\d"\n' + F + "\n```",
}


@pytest.mark.filterwarnings("ignore:invalid escape sequence")  # here; the code under test has to see to itself
@pytest.mark.parametrize("tests", [NEXT, UNNAMED], ids=["named", "unnamed"])
@pytest.mark.parametrize("kind", FUNCTIONS)
def test_the_program_is_the_block_that_defines_what_is_tested(kind: str, tests: UnitTests) -> None:
    names: dict[str, Any] = {}
    exec(compile(extract_program(FUNCTIONS[kind], tests), "program", "exec"), names)
    exec(tests.functional, names)


ERRORS = ["print f(1)", "Print(f(1)", "return 2", "else:", "CLASS = = 1", "Class A:\n    x = 1"]
FORMS = ["{}", "```python\n{}\n```", "```python\n{}", "Here:\n\n{}", "{}\n```", "<code>\n{}\n</code>", "python\n{}"]


@pytest.mark.parametrize("error", ERRORS)
@pytest.mark.parametrize("form", [*FORMS, "{}\n```\n\nThis adds one.", "Here it is:\n{}\n\nThis adds one."])
def test_a_program_with_an_error_in_it_stays_one(error: str, form: str) -> None:
    with pytest.raises(SyntaxError):
        compile(extract_program(form.format(f"{F}\n\n{error}"), NEXT), "program", "exec")


@pytest.mark.parametrize("error", ["Return x", "IF x:\n    pass", "x = = 1"])
@pytest.mark.parametrize("form", ["{}", "{}\n```", "<code>\n{}\n</code>", "python\n{}"])
def test_an_error_at_once_behind_a_function_is_no_prose(error: str, form: str) -> None:
    with pytest.raises(SyntaxError):
        compile(extract_program(form.format(f"{F}\n{error}"), NEXT), "program", "exec")


WRONG = "def f(x):\n    return x"


@pytest.mark.parametrize(
    "answer",
    [
        f"{F}\n```\nBetter so:\n```python\n{WRONG}\n```",
        f"{F}\n\nBetter so:\n\n{WRONG}",
        f"<code>\n{F}\n</code>\n```python\n{WRONG}\n```",
        f"<code>\n{F}\n</code>\nBetter so:\n<code>\n{WRONG}\n</code>",
        f"python\n{WRONG}\n```",
        f"'''\n<code>\n{F}\n</code>\n'''\n{WRONG}",
    ],
)
def test_of_two_versions_the_last_is_the_answer_however_they_are_marked(answer: str) -> None:
    names: dict[str, Any] = {}
    exec(compile(extract_program(answer, NEXT), "program", "exec"), names)
    assert names["f"](1) == 1


def test_a_class_is_found_by_the_entry_point_and_a_later_use_of_it_is_not_taken_for_it() -> None:
    solution = "class Solution:\n    def f(self, x):\n        return x + 1"
    answer = f"```python\n{solution}\n```\n```python\ns = Solution()\nf = s.f\nprint(f(1))\n```"
    assert extract_program(answer, METHOD) == solution
    assert names_under_test(METHOD) == {"Solution"}
    assert names_under_test(UnitTests(functional="from solution import f as g\nassert g(1) == 2")) == {"f"}
    assert names_under_test(UnitTests(functional="import solution\nassert solution.f(1) == 2")) == {"f"}
    assert names_under_test(UnitTests(functional="from math import pi\nassert sorted(f(pi)) == g")) == {"f", "g"}


def test_a_builtin_may_be_what_is_asked_for() -> None:
    answer = "```python\ndef sum(a, b):\n    return a + b\n```\n```python\nprint(sum(1, 2))\n```\n```\nwell said\n```"
    assert extract_program(answer, UnitTests(functional="assert sum(1, 2) == 3")).startswith("def sum(a, b)")


PROGRAM = "n = int(input())\nprint(2 * n)"
MAIN = "def main():\n    n = int(input())\n    print(2 * n)"
PROGRAMS = {
    "no fence": PROGRAM,
    "output follows": f"```python\n{PROGRAM}\n```\nFor 3 it prints\n```\n6\n```",
    "input and command follow": f"```\n{PROGRAM}\n```\n```\n3\n```\n```bash\npython a.py < in\n```\n```\necho\n```",
    "words follow that are Python": f"```python\n{PROGRAM}\n```\n```\nYES\n```\n```\n[1, 2]\n```\n```\nx = 6\n```",
    "usage follows": f"```python\n{MAIN}\n\nmain()\n```\n```python\nprint(main())\n```",
    "a quoted line follows": f"```python\n{PROGRAM}\n```\nThis reads:\n```python\nn = int(input())\n```",
    "another quoted line follows": f"```python\n{PROGRAM}\n```\nThis prints:\n```python\nprint(2 * n)\n```",
    "the call apart": f"```python\n{MAIN}\n```\nThen call it:\n```python\nmain()\n```",
    "the call apart, after settings": f"```python\nimport sys\nsys.setrecursionlimit(9999)\n{MAIN}\n```\n```python\n"
    "if __name__ == '__main__':\n    main()\n```",
    "cut in two": "```python\nn = int(input())\n```\n```python\nprint(2 * n)\n```",
    "improved": f"```python\nn = int(input())\nprint(n)\n```\nBetter:\n```python\n{PROGRAM}\n```",
    "standard input": "```python\nimport sys\nsys.stdout.write(str(2 * int(sys.stdin.read())))\n```\n```\n6\n```",
    "a closing fence alone": f"{PROGRAM}\n```\n\nFor 3 it prints\n```\n6\n```",
    "the language alone": f"python\n{PROGRAM}",
    "tags": f"<code>\n{PROGRAM}\n</code>",
    "prose between without fences": "n = int(input())\n\nThen we double it:\n\nprint(2 * n)\n\nThis is all.",
    "docstring with a fence": f'```python\n"""\n```\n6\n```\n"""\n{PROGRAM}\n```',
}


@pytest.mark.parametrize("kind", PROGRAMS)
def test_where_no_name_is_known_the_program_is_the_block_that_does_the_most(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = compile(extract_program(PROGRAMS[kind], DOUBLED), "program", "exec")
    for given, expected in zip(DOUBLED.inputs, DOUBLED.outputs, strict=True):
        monkeypatch.setattr(sys, "stdin", io.StringIO(given))
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            exec(program, {"__name__": "__main__"})
        assert printed.getvalue().strip() == expected


@pytest.mark.parametrize(
    "text",
    [
        *("", "```", "```python", "``````", "no code at all", "```python\n```", "x = '\0'"),
        *("(" * 50_000, "f = " + "-" * 50_000, "f = 1" + "+1" * 9000, "`" * 50_000),
        *("```\n" * 4000, "```python\n" * 4000, "```python\n'''\n```\n" * 1500, "x```\n" * 4000),
        *("<code>x</code>\n" * 4000, "<code>\n" * 8000, "This is.\n\n" * 5000, "This is:\n" * 6000, "python\n" * 9000),
        *("</code>" * 14_000 + "x", "The cat sat on the mat.\n\n" * 4000),
    ],
    ids=lambda text: f"{len(text)} of {text[:12]!r}",
)
@pytest.mark.parametrize("tests", [UNNAMED, DOUBLED], ids=["function", "program"])
def test_any_text_has_some_program_in_bounded_time(text: str, tests: UnitTests) -> None:
    began = time.process_time()
    assert isinstance(extract_program(text, tests), str)
    assert time.process_time() - began < 20  # these take minutes where the work is quadratic
