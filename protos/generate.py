"""Regenerates the Python modules beside the .proto files: `python -m protos.generate`."""

from __future__ import annotations

import argparse
import filecmp
import importlib.resources
import sys
import tempfile
from pathlib import Path

import google.api
from google.protobuf import descriptor_pb2
from grpc_tools import protoc
from protobuf import DescFile
from protovalidate import ViolationsPb

ROOT = Path(__file__).resolve().parent.parent
# The wheel carries the descriptor of buf/validate/validate.proto, but neither the file nor a module for
# google.protobuf; both come from the descriptor, so that rules and validator always are of one version.
VALIDATE = "buf/validate/validate.proto"


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
        expected = {path.relative_to(fresh) for path in fresh.rglob("*_pb2.py*")}
        present = {path.relative_to(ROOT) for path in (ROOT / "protos").rglob("*_pb2.py*")}
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
