"""The rules of the house as functions over source text: which room may import which, and what no file may do.

Each rule returns its breaches as `file:line: sentence`, so that a test can plant one and see it named.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

# The floors of the house: a room imports rooms of lower floors only.
FLOORS: dict[str, int] = {
    "core": 1,
    **dict.fromkeys(("schema", "video", "align", "models", "transforms", "stats"), 2),
    **dict.fromkeys(("sources", "validate", "labels", "synth", "samples", "privacy"), 3),
    "store": 4,
    "versions": 5,
    **dict.fromkeys(("loaders", "publish", "view"), 6),
    "evaluate": 7,
}
# Imported when they are needed, never at the top of a module of `dataengine`.
HEAVY = ("av", "cv2", "h5py", "mcap", "mcap_ros1", "mcap_ros2", "mcap_protobuf", "google.protobuf", "ray", "torch", "tensorflow", "boto3", "rerun")
# Needed by the rooms that hold tables and nowhere below: an import of a low room stays fast.
TABLES = ("pyarrow", "polars", "deltalake", "zarr", "numcodecs")
ROOMS_OF_TABLES = ("store", "versions", "loaders", "publish", "view", "evaluate")
# file → libraries that it may import at its top all the same, each with its reason in a comment.
TOP_ALLOWED: dict[str, tuple[str, ...]] = {
    "dataengine/loaders/torch_stream.py": (
        "torch",
    ),  # torch knows a stream by its base class, IterableDataset; nothing imports the file unless a stream is asked for
}

# room → libraries that its modules are made of; it is imported by nothing unless a model is asked for.
TOP_ALLOWED_ROOMS: dict[str, tuple[str, ...]] = {"models": ("torch",)}

FORBIDDEN_NAMES = ("util", "utils", "helper", "helpers", "common", "base", "manager", "managers", "misc")
MAX_LINES = 400


@dataclass(frozen=True)
class Import:
    """One imported module: its dotted name, the line, whether it stands at the top of the file, and whether it is for types only."""

    module: str
    line: int
    top: bool
    typing: bool


def _is_type_checking(test: ast.expr) -> bool:
    return (isinstance(test, ast.Name) and test.id == "TYPE_CHECKING") or (isinstance(test, ast.Attribute) and test.attr == "TYPE_CHECKING")


def _named(node: ast.Import | ast.ImportFrom, package: str) -> list[str]:
    """Return the dotted names an import statement may load; `from a import b` names both a and a.b, since b may be a module."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    parts = package.split(".")
    prefix = ".".join(parts[: len(parts) - node.level + 1]) if node.level else ""
    module = ".".join(part for part in (prefix, node.module or "") if part)
    return [module, *(f"{module}.{alias.name}" for alias in node.names)]


def imports_of(source: str, package: str) -> list[Import]:
    """Return every import of a module, also those inside functions, for types only, and by `import_module` of a literal.

    Args:
        source: the module's text.
        package: dotted name of the package the module lies in, for relative imports.
    """
    found: list[Import] = []

    def visit(node: ast.AST, top: bool, typing: bool) -> None:
        if isinstance(node, ast.Import | ast.ImportFrom):
            found.extend(Import(name, node.lineno, top, typing) for name in _named(node, package))
        elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant) and isinstance(node.args[0].value, str):
            called = node.func.id if isinstance(node.func, ast.Name) else node.func.attr if isinstance(node.func, ast.Attribute) else ""
            if called in ("import_module", "__import__"):
                found.append(Import(node.args[0].value, node.lineno, top, typing))
        inside = top and not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        if isinstance(node, ast.If) and _is_type_checking(node.test):
            for child in node.body:
                visit(child, inside, True)
            for child in node.orelse:
                visit(child, inside, typing)
            return
        for child in ast.iter_child_nodes(node):
            visit(child, inside, typing)

    visit(ast.parse(source), True, False)
    return found


def _starts_with(module: str, library: str) -> bool:
    return module == library or module.startswith(library + ".")


def _floor_breach(module: str, path: str) -> str | None:
    """Return why a module of the house at `path` must not import `module`, None where it may."""
    target = module.split(".")
    if _starts_with(module, "ray") and path != "pipelines/runtime.py":
        return "only pipelines/runtime.py imports ray"
    if path.startswith("pipelines/"):
        return None
    if target[0] == "pipelines":
        return "nothing inside dataengine imports pipelines"
    parts = path.split("/")
    if target[0] != "dataengine" or len(parts) < 3:
        return None
    room = parts[1]
    if room not in FLOORS:
        return f"{room} is no room of the house"
    if len(target) < 2 or target[1] == "version":
        return None
    other = target[1]
    if other not in FLOORS:
        return f"{other!r} is no room of the house; a room imports rooms, not the front door"
    if other == room or FLOORS[other] < FLOORS[room]:
        return None
    if FLOORS[other] == FLOORS[room]:
        return f"{room} and {other} are siblings on floor {FLOORS[room]}"
    return f"{room} (floor {FLOORS[room]}) must not import {other} (floor {FLOORS[other]})"


def import_breaches(path: str, source: str) -> list[str]:
    """Return where a module, at `path` below the repository, imports what it must not."""
    package = ".".join(path.removesuffix(".py").split("/")[:-1])
    found: dict[tuple[int, str], str] = {}
    for imported in imports_of(source, package):
        reason = _floor_breach(imported.module, path)
        if reason is None and imported.top and not imported.typing and path.startswith("dataengine/"):
            reason = _heavy_breach(imported.module, path)
        if reason is not None:
            found.setdefault((imported.line, reason), f"{path}:{imported.line}: imports {imported.module}: {reason}")
    return list(found.values())


def _heavy_breach(module: str, path: str) -> str | None:
    allowed = (*TOP_ALLOWED.get(path, ()), *TOP_ALLOWED_ROOMS.get(path.split("/")[1], ()))
    for library in HEAVY:
        if _starts_with(module, library) and library not in allowed:
            return f"{library} is heavy, import it inside the function that needs it"
    if path.split("/")[1] not in ROOMS_OF_TABLES:
        for library in TABLES:
            if _starts_with(module, library) and library not in allowed:
                return f"{library} is slow to import, import it inside the function that needs it"
    return None


def circles(sources: Mapping[str, str]) -> list[str]:
    """Return the circles of imports among modules of one room, each as `a.py → b.py → a.py`; `sources` maps path to text."""
    names = {path.removesuffix(".py").removesuffix("/__init__").replace("/", "."): path for path in sources}
    edges: dict[str, list[str]] = {}
    for name, path in names.items():
        package = ".".join(path.split("/")[:-1])
        edges[name] = sorted({imported.module for imported in imports_of(sources[path], package)} & set(names) - {name})
    found: list[str] = []
    state: dict[str, int] = {}

    def visit(name: str, trail: tuple[str, ...]) -> None:
        state[name] = 1
        for other in edges[name]:
            if state.get(other) == 1:
                around = (*trail, name)[(*trail, name).index(other) :]
                found.append(" → ".join(names[step] for step in (*around, other)))
            elif other not in state:
                visit(other, (*trail, name))
        state[name] = 2

    for name in sorted(names):
        if name not in state:
            visit(name, ())
    return found


def _catches_everything(handler: ast.ExceptHandler) -> bool:
    caught = handler.type.elts if isinstance(handler.type, ast.Tuple) else [handler.type]
    return any(isinstance(kind, ast.Name) and kind.id in ("Exception", "BaseException") for kind in caught)


def _public_without_docstring(tree: ast.Module) -> Iterator[tuple[int, str]]:
    if ast.get_docstring(tree) is None:
        yield 1, "the module has no docstring"
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) and not node.name.startswith("_") and ast.get_docstring(node) is None:
            yield node.lineno, f"{node.name} is public and has no docstring"


def file_breaches(path: str, source: str) -> list[str]:
    """Return what is wrong with a file by itself: its length, its name, docstrings that are missing, errors that are swallowed."""
    found = []
    lines = source.count("\n") + 1
    if lines > MAX_LINES:
        found.append(f"{path}:1: has {lines} lines, at most {MAX_LINES}")
    for part in path.removesuffix(".py").split("/"):
        if part in FORBIDDEN_NAMES or part.rsplit("_", 1)[-1] in FORBIDDEN_NAMES:
            found.append(f"{path}:1: {part!r} does not say what the file is; name it for the thing")
    tree = ast.parse(source)
    found += [f"{path}:{line}: {reason}" for line, reason in _public_without_docstring(tree)]
    for node in ast.walk(tree):
        if not isinstance(node, ast.ExceptHandler):
            continue
        if node.type is None:
            found.append(f"{path}:{node.lineno}: a bare except swallows everything, also Ctrl-C; name the errors")
        elif _catches_everything(node) and all(isinstance(step, ast.Pass | ast.Continue) for step in node.body):
            found.append(f"{path}:{node.lineno}: swallows every error in silence; name the errors, and report them")
    return found


def house_sources(repository: Path) -> dict[str, str]:
    """Return the text of every module of `dataengine` and `pipelines` by its path below the repository."""
    files = [path for package in ("dataengine", "pipelines") for path in (repository / package).rglob("*.py") if "__pycache__" not in path.parts]
    return {path.relative_to(repository).as_posix(): path.read_text(encoding="utf-8") for path in sorted(files)}
