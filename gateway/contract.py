"""The public methods of the .proto files. A new method needs no change here."""

from __future__ import annotations

import importlib
from collections.abc import Collection
from pathlib import Path

from google.protobuf.descriptor import Descriptor, FieldDescriptor

import protos
from chassis.rpc.methods import Method, methods_of

_INTERNAL_SERVICES = frozenset({"homeroom.chassis.v1.CarrierService"})  # for calls between processes only

# The package of the methods that the gateway itself answers.
OWN = "gateway"


class ContractError(Exception):
    """The .proto files have something that cannot be served, so the gateway does not start."""


def public_methods() -> list[Method]:
    """Every method of `protos/*/v1` that callers other than services may use.

    Raises:
        ContractError: a method has no policy.
    """
    found: list[Method] = []
    for service in service_names():
        try:
            found += [method for method in methods_of(service) if not method.internal]
        except ValueError as error:
            raise ContractError(str(error)) from error
    return found


def owners_of(method: Method, upstreams: Collection[str]) -> list[str]:
    """The short names of the services that answer: "session" for homeroom.session.v1.SessionService.

    All services answer a method whose path names one of them.
    """
    return sorted(upstreams) if method.owner_in_path else [method.service.split(".")[1]]


def service_names() -> list[str]:
    """The full names of all services with methods that callers may use."""
    services: list[str] = []
    for folder in protos.__path__:
        for path in sorted(Path(folder).glob("*/v1/*_pb2.py")):
            package = path.parent.parent.name
            module = importlib.import_module(f"{protos.__name__}.{package}.v1.{path.stem}")
            services += [service.full_name for service in module.DESCRIPTOR.services_by_name.values()]
    return [service for service in services if service not in _INTERNAL_SERVICES]


def is_single_string(message: Descriptor, name: str) -> bool:
    """Whether a message has this field, and it is one string."""
    field = message.fields_by_name.get(name)
    return field is not None and field.type == FieldDescriptor.TYPE_STRING and not field.is_repeated
