"""Example bodies for the schemas of an OpenAPI document, made of one sample for each property."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any


@cache
def samples() -> dict[str, Any]:
    """Values by `Schema.property`, or by `property` alone."""
    return tomllib.loads(Path(__file__).with_name("examples.toml").read_text())


class Examples:
    """Examples of one document."""

    def __init__(self, document: dict[str, Any]) -> None:
        self._schemas = document["components"]["schemas"]
        self.unsampled: set[str] = set()
        """required properties that have no sample"""

    def resolve(self, schema: dict[str, Any]) -> tuple[str, dict[str, Any]]:
        """The name, if it has one, and the schema behind references and optional values."""
        if "$ref" in schema:
            name = schema["$ref"].rsplit("/", 1)[1]
            return name, self._schemas[name]
        for branch in schema.get("oneOf", schema.get("anyOf", ())):
            if branch.get("type") != "null":
                return self.resolve(branch)
        return "", schema

    def value(self, schema: dict[str, Any], sample: Any = None) -> Any:
        """An example of a schema. `sample` is what its property has, if any."""
        name, resolved = self.resolve(schema)
        if "properties" in resolved:
            return self._object(name, resolved)
        items = resolved.get("items")
        if items is not None and "properties" in self.resolve(items)[1]:
            return [self.value(items)]
        if isinstance(sample, str) and not re.search(resolved.get("pattern", ""), sample):
            return resolved.get("default")
        return sample

    def body(self, operation: str, media: str, schema: dict[str, Any]) -> Any:
        """An example of a body, or None if its schema says nothing about it."""
        return self.value(schema) if media == "application/json" else samples().get(operation)

    def fields(self, schema: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, str, bool, str]]:
        """Path, type, whether it is required, and description of each field below a schema."""
        _, resolved = self.resolve(schema)
        if "items" in resolved:
            yield from self.fields(resolved["items"], f"{prefix}[]" if prefix else "[]")
        for name, each in resolved.get("properties", {}).items():
            path = f"{prefix}.{name}" if prefix else name
            yield path, self.type(each), name in resolved.get("required", ()), each.get("description", "")
            yield from self.fields(each, path)

    def type(self, schema: dict[str, Any]) -> str:
        """A schema in a few words."""
        _, resolved = self.resolve(schema)
        if "enum" in resolved:
            return "one of " + ", ".join(f"`{each}`" for each in resolved["enum"])
        if "items" in resolved:
            return f"list of {self.type(resolved['items'])}"
        kind = resolved.get("type", "any value")
        return kind if isinstance(kind, str) else " or ".join(each for each in kind if each != "null")

    def _object(self, name: str, schema: dict[str, Any]) -> dict[str, Any]:
        own = samples().get(name, {})
        found = {}
        for key, each in schema["properties"].items():
            if key in own.get("omit", ()):
                continue
            value = self.value(each, own.get(key, samples().get(key)))
            if value is not None:
                found[key] = value
            elif key in schema.get("required", ()):
                self.unsampled.add(f"{name}.{key}")
        return found
