"""What a message of jsonargparse 4.47 says to a user: the whole key, the cause, and what was probably meant."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from pathlib import Path

PACKAGE = Path(__file__).parent

# Names of other trainers, and ours.
FOREIGN = {
    "learning_rate": "model.optimizer.lr",
    "num_generations": "model.sampling.group_size",
    "max_completion_length": "model.sampling.max_tokens",
    "model_name_or_path": "model.policy",
    "output_dir": "trainer.default_root_dir",
    "num_train_epochs": "curriculum.steps",
    "epochs": "curriculum.steps",
    "max_steps": "curriculum.steps",
    "per_device_train_batch_size": "data.batch_size",
    "gradient_accumulation_steps": "model.memory.micro_batch_tokens",
    "report_to": "trainer.logger",
    "seed": "seed_everything",
}
# Dictionaries whose keys are the user's: messages do not say which entry they are about.
ENTRIES = ("data.tasks", "data.benchmarks")

_UNKNOWN = re.compile(
    r"(?:Unrecognized arguments: --|Option '(?=[^']+' is not accepted)|"
    r"Group '(?P<group>[^']+)' does not accept option ')(?P<key>[\w.]+)"
)
_GROUP = re.compile(r'Parser key "([\w.]+)":\s+Unable to load config')
_KEY = re.compile(r'Parser key "(?P<key>[^"]+)"(?P<element>[^:]*):(?P<rest>.*)')
_FRAMES = re.compile(
    r"Problem with given class_path|Does not validate against any of|Subtypes: |Errors:|Given value type: |"
    r"Expected a path but .* either not accessible or invalid|Expected a <class 'NoneType'>|"
    r"Subclass types expect one of:|a class path \(str\)|a dict with(?:out)? "
)
_GIVEN = re.compile(r"Given value: (?:NestedArg\(key='[^']*', val=(?P<nested>.*)\)|(?P<value>.*))")
# Types are shown by their names; what an optimiser's type says of callables, and a whole class as a value, not at all.
_NOISE = re.compile(
    r"<class '(?:collections\.abc\.)?([^']+)'>|(?:typing|collections\.abc)\.(?=\w)|\.? Got value: Namespace\(.*\)$",
    re.MULTILINE,
)
_CALLABLE = re.compile(r"Type \S+\[\[.*?\], [\w.]+\] expects a function or a callable class: ")
_TENSOR = re.compile(r"(?<=<class 'float'>\n) *- Expected a dot import path string: .*\n(?= *Given value type: )")
_REQUIRED = re.compile(r"(?:(?P<key>[\w.]+): )?Option '(?P<option>[\w.]+)' is required but .*")
# Settings of MT-GRPO that no other module has.
MT_GRPO_ONLY = ("advantage", "kl", "objective", "overlong", "rollouts")
_MT_GRPO = re.compile(
    rf"model: Option '(?:{'|'.join(MT_GRPO_ONLY)})[.'].* is not accepted; its class has .*", re.DOTALL
)
_NOT_ACCEPTED = re.compile(r"(?P<key>[\w.]+): Option '\w+' is not accepted; its class has no settings")
# A class to name where that of the defaults has no settings, by the last part of the key.
_OTHER_CLASS = {"source": "omnithink_pl.sources.Table"}
_MISFIT = "Expected a "
_SWITCHES = {"true", "false", "yes", "no", "on", "off"}
_NO_PATH = re.compile(  # a folder, say, or a number
    r"(?:Expected a dot import path string|Unexpected import path format): (?![A-Za-z_]\w*$)", re.MULTILINE
)
_NO_CLASS = re.compile(
    r"Expected a dot import path string: ([A-Za-z_]\w*)$|module '[\w.]+' has no attribute '(\w+)'", re.MULTILINE
)


def without_tensors(message: str) -> str:
    """Return a message in which a number is only a number: torch's optimisers also take it as a tensor, a class."""
    return _TENSOR.sub("", message)


def readable(message: str) -> str:
    """Return the causes in a message, each behind its whole key.

    That message nests a block for each class on the way, names one part of the key at a time, and for an optional value
    also complains that it is not null. Of a union, what is wrong with a class that was found says more than that the
    value is no list either.

    Args:
        message: Lines that are indented by their level.

    Returns:
        ``key: cause``; for a union type the causes of all members, with the value behind the last.
    """
    if found := _GROUP.search(message):
        key = ".".join(re.findall(r'Parser key "([^"]+)"', message[: found.end()]))
        return f"{key}: it has settings of its own and takes no value; give one of them: --{key}.NAME=VALUE"
    causes: list[tuple[str, str]] = []
    keys: list[tuple[int, str]] = []  # the path to the present line: indent and part of the key
    given: list[str] = []
    for raw in filter(str.strip, message.splitlines()):
        line = raw.lstrip(" -")
        depth = len(raw) - len(line)
        line = _CALLABLE.sub("", line)
        keys = [(at, key) for at, key in keys if at < depth]
        if found := _KEY.match(line):
            keys.append((depth, found["key"] + found["element"]))
            line = found["rest"].strip()
        if found := _GIVEN.match(line):
            given.append(found["nested"] or found["value"])
        elif line and not _FRAMES.match(line):
            causes.append((".".join(key for _, key in keys), _NOISE.sub(lambda name: name[1] or "", line)))
    return _joined(causes, given) or message


def _joined(causes: Sequence[tuple[str, str]], given: Sequence[str]) -> str:
    """Join the causes: those of one key in a line."""
    telling = [(key, cause) for key, cause in causes if not cause.startswith(_MISFIT)]
    if given and telling and len(causes) > 1:
        causes, given = telling, ()
    by_key: dict[str, list[str]] = {}
    for key, cause in causes:
        own = by_key.setdefault(key, [])
        further = cause.removeprefix(_MISFIT) if own and own[0].startswith(_MISFIT) else cause
        if not {cause, further} & {*own}:
            own.append(further)
    lines = [f"{key}: {' or '.join(own)}" if key else "\n  ".join(own) for key, own in by_key.items()]
    return "\n  ".join(lines) + (f"; the value is {given[0]}" if given and len(causes) > 1 else "")


def unknown_key(message: str, keys: Iterable[str]) -> str:
    """Return what to add to a message about an unknown key: the key that was probably meant, if there is one."""
    if found := _GROUP.search(message):
        return f"; did you mean {FOREIGN[found[1]]}?" if found[1] in FOREIGN else ""
    found = _UNKNOWN.search(message)
    if not found or "did you mean" in message or "; its class has" in message:
        return ""
    near = nearest_key(".".join(filter(None, found.groups())).replace(".init_args", ""), list(keys))
    return f"; did you mean {near}?" if near else ""


def accepted(message: str, names: Sequence[str]) -> str:
    """Return what to add to a message about a setting that a class does not have: those that it has."""
    if not re.search("Option '.*' is not accepted$", message):
        return ""
    return f"; its class has {', '.join(names)}" if names else "; its class has no settings"


def nearest_key(key: str, keys: Sequence[str]) -> str:
    """Return the key that was probably meant: ``evaluation.evaluator.prompts`` for ``evaluation.prompts``; or nothing.

    Args:
        key: Unknown, dotted.
        keys: Those that there are.
    """
    if key in FOREIGN:
        return FOREIGN[key]
    parts = key.split(".")
    holding = [one for one in keys if _holds(one.split("."), parts)]
    if holding:
        return min(holding, key=len)
    first, _, rest = key.partition(".")
    above = [one for one in keys if rest and one.endswith(f".{first}")]
    near = get_close_matches(key, keys, n=1, cutoff=0.75) or [f"{one}.{rest}" for one in above]
    if near:
        return near[0]
    last = {one: one.rpartition(".")[2] for one in keys}
    alike = get_close_matches(parts[-1], {*last.values()}, n=1, cutoff=0.75)
    begun = [name for name in last.values() if len(parts[-1]) > 2 and name.startswith(parts[-1])]  # `batch`, `temp`
    return min((one for one in keys if last[one] in (alike or begun)), key=len, default="")


def _holds(whole: Sequence[str], parts: Sequence[str]) -> bool:
    """Return whether the parts stand in the whole in their order, the last one at its end."""
    rest = iter(whole)
    return whole[-1] == parts[-1] and all(part in rest for part in parts)


def class_path(message: str) -> str:
    """Return what to add to a message about a class that is not where it was looked for: where this package has one."""
    if _NO_PATH.search(message):
        return "; it has settings of its own: give one of them, as KEY.NAME=VALUE"
    found = _NO_CLASS.search(message)
    if not found:
        return ""
    wanted = found[1] or found[2]
    if wanted in _SWITCHES:
        return "; it is no switch: give one of its settings, as KEY.NAME=VALUE, or null for none"
    paths: dict[str, str] = {}
    for file in sorted(PACKAGE.rglob("*.py")):
        module = ".".join(file.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__")
        for name in re.findall(r"^class ([A-Za-z]\w*)", file.read_text(encoding="utf-8"), re.MULTILINE):
            paths.setdefault(name, f"{module}.{name}")
    near = get_close_matches(wanted, paths, n=1, cutoff=0.7)
    near = near or [name for name in paths if len(wanted) > 2 and wanted.lower() in name.lower()]
    return f"; write {paths[near[0]]}" if near else "; write its whole path, such as my_package.MyClass"


def cured(text: str, verbs: Iterable[str]) -> str:
    """Complete a readable message about a setting that is missing, or that its class does not have.

    Args:
        text: The message, with the whole key.
        verbs: Names that may stand before a key.
    """
    if found := _REQUIRED.fullmatch(text):
        verb, _, rest = found["option"].partition(".")
        option = rest if verb in verbs else found["option"]
        key = ".".join(filter(None, (found["key"], option)))
        where = f"{found['key']}: " if found["key"] else ""
        return f"{where}Option {option!r} is required; give it, not null: --{key}=VALUE"
    if found := _NOT_ACCEPTED.fullmatch(text):
        other = _OTHER_CLASS.get(found["key"].rpartition(".")[2], "my_package.MyClass")
        return f"{text}; name another before it, such as --{found['key']}={other}"
    if _MT_GRPO.fullmatch(text):
        return f"{text}; a --config that sets it stands before the one that chooses this class"
    return text


def name_entry(text: str, given: Iterable[str]) -> str:
    """Complete the key of a message about an entry of ``ENTRIES``: ``data.tasks.source`` becomes that of ``math``.

    Args:
        text: A readable message.
        given: Keys that the user set.
    """
    for group in ENTRIES:
        found = re.match(rf"{re.escape(group)}(?P<rest>(?:\.\w+)*): (?:Option '(?P<option>\w+)')?", text)
        if not found:
            continue
        entries = [key.split(".")[len(group.split("."))] for key in given if key.startswith(f"{group}.")]
        ends = [f"{found['rest']}.{found['option']}", found["rest"]]
        named = [e for e in entries if any(f"{group}.{e}{end}" in given for end in ends if end)] or entries
        if len(set(named)) == 1:
            return f"{group}.{named[0]}{text.removeprefix(group)}"
    return text
