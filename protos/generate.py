"""Regenerates the Python modules beside the .proto files: `python -m protos.generate`."""

from __future__ import annotations

import argparse
import filecmp
import importlib.resources
import json
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import google.api
from google.protobuf import descriptor_pb2
from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    EnumDescriptorProto,
    FileDescriptorProto,
    FileDescriptorSet,
)
from grpc_tools import protoc
from protobuf import DescFile
from protovalidate import ViolationsPb

ROOT = Path(__file__).resolve().parent.parent
# The wheel carries the descriptor of buf/validate/validate.proto, but neither the file nor a module for
# google.protobuf; both come from the descriptor, so that rules and validator always are of one version.
VALIDATE = "buf/validate/validate.proto"
COMMENTS_SUFFIX = ".comments.json"
PATTERNS = ("*_pb2.py*", f"*{COMMENTS_SUFFIX}")
PACKAGE_PATH = (2,)
INTERNAL = "protos/chassis/"


def sources() -> list[str]:
    return sorted(str(path.relative_to(ROOT)) for path in (ROOT / "protos").rglob("*.proto"))


def write_validate_descriptors(target: Path) -> None:
    """Writes buf's validate.proto, and what it imports, as a FileDescriptorSet."""
    descriptors = descriptor_pb2.FileDescriptorSet()
    seen: set[str] = set()

    def add(description: DescFile) -> None:
        if description.name in seen:
            return
        seen.add(description.name)
        for dependency in description.dependencies:
            add(dependency)
        descriptors.file.add().MergeFromString(description.proto.to_binary())

    add(ViolationsPb.desc().file)
    target.write_bytes(descriptors.SerializeToString(deterministic=True))


def generate(output: Path) -> None:
    """Generates every module under `output`, which mirrors the repository's root."""
    (output / "protos").mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        validate = Path(scratch) / "validate.binpb"
        write_validate_descriptors(validate)
        run(
            f"--descriptor_set_in={validate}",
            f"--python_out={output / 'protos'}",
            f"--pyi_out={output / 'protos'}",
            VALIDATE,
        )
        run(*import_paths(validate), f"--python_out={output}", f"--pyi_out={output}", *sources())
    for module in sorted(output.rglob("*_pb2.py*")):
        text = module.read_text()
        module.write_text(text.replace("from buf.validate import", "from protos.buf.validate import"))
    write_comments(output)


def write_comments(output: Path) -> None:
    """Writes the comments of each .proto file beside its modules: a descriptor at run time has none."""
    with tempfile.TemporaryDirectory() as scratch:
        image = Path(scratch) / "contract.binpb"
        write_image(image)
        files = FileDescriptorSet.FromString(image.read_bytes()).file
    documented = {source for source in sources() if not source.startswith(INTERNAL)}
    for file in files:
        if file.name in documented:
            text = json.dumps(dict(comments_of(file)), indent=1, sort_keys=True, ensure_ascii=False)
            (output / file.name).with_suffix(COMMENTS_SUFFIX).write_text(text + "\n")


def comments_of(file: FileDescriptorProto) -> Iterator[tuple[str, str]]:
    """The full name of each element of a file that has a comment, and the comment; "" names the file."""
    names = {PACKAGE_PATH: "", **dict(paths_of(file))}
    for location in file.source_code_info.location:
        name = names.get(tuple(location.path))
        comment = location.leading_comments or location.trailing_comments
        if name is not None and comment:
            yield name, " ".join(comment.split())


def paths_of(file: FileDescriptorProto) -> Iterator[tuple[tuple[int, ...], str]]:
    """The path of each message, field, enum, value, service and method, and its full name.

    The numbers are those of the fields in google/protobuf/descriptor.proto.
    """
    for index, message in enumerate(file.message_type):
        yield from message_paths(message, (4, index), f"{file.package}.{message.name}")
    for index, enum in enumerate(file.enum_type):
        yield from enum_paths(enum, (5, index), f"{file.package}.{enum.name}")
    for index, service in enumerate(file.service):
        name = f"{file.package}.{service.name}"
        yield (6, index), name
        for place, method in enumerate(service.method):
            yield (6, index, 2, place), f"{name}.{method.name}"


def message_paths(
    message: DescriptorProto, path: tuple[int, ...], name: str
) -> Iterator[tuple[tuple[int, ...], str]]:
    yield path, name
    for index, field in enumerate(message.field):
        yield (*path, 2, index), f"{name}.{field.name}"
    for index, nested in enumerate(message.nested_type):
        yield from message_paths(nested, (*path, 3, index), f"{name}.{nested.name}")
    for index, enum in enumerate(message.enum_type):
        yield from enum_paths(enum, (*path, 4, index), f"{name}.{enum.name}")


def enum_paths(
    enum: EnumDescriptorProto, path: tuple[int, ...], name: str
) -> Iterator[tuple[tuple[int, ...], str]]:
    yield path, name
    for index, value in enumerate(enum.value):
        yield (*path, 2, index), f"{name}.{value.name}"


def write_image(target: Path) -> None:
    """Writes all descriptors, comments included, as the one file that buf reads."""
    with tempfile.TemporaryDirectory() as scratch:
        validate = Path(scratch) / "validate.binpb"
        write_validate_descriptors(validate)
        run(
            *import_paths(validate),
            "--include_source_info",
            "--include_imports",
            f"--descriptor_set_out={target}",
            *sources(),
        )


def import_paths(validate: Path) -> list[str]:
    google_protos = Path(next(iter(google.api.__path__))).parent.parent
    bundled = importlib.resources.files("grpc_tools") / "_proto"
    return [
        f"--proto_path={ROOT}",
        f"--proto_path={google_protos}",
        f"--proto_path={bundled}",
        f"--descriptor_set_in={validate}",
    ]


def run(*arguments: str) -> None:
    if protoc.main(["protoc", *arguments]) != 0:
        raise SystemExit(1)


def stale() -> list[str]:
    """Returns the generated files that differ from what the .proto files say."""
    with tempfile.TemporaryDirectory() as scratch:
        fresh = Path(scratch)
        generate(fresh)
        expected = {path.relative_to(fresh) for pattern in PATTERNS for path in fresh.rglob(pattern)}
        present = {
            path.relative_to(ROOT) for pattern in PATTERNS for path in (ROOT / "protos").rglob(pattern)
        }
        return sorted(
            str(path)
            for path in expected | present
            if path not in expected
            or path not in present
            or not filecmp.cmp(fresh / path, ROOT / path, shallow=False)
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="change nothing; fail when a file is stale")
    parser.add_argument("--image", type=Path, metavar="FILE", help="only write the descriptors, for buf")
    arguments = parser.parse_args()
    if arguments.image:
        write_image(arguments.image)
    elif not arguments.check:
        generate(ROOT)
    elif files := stale():
        sys.exit("Stale generated code; run `make protos`:\n  " + "\n  ".join(files))


if __name__ == "__main__":
    main()
