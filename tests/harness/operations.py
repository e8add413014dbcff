"""schemathesis for each operation of a document, whose cases are drawn when the test runs, not when it is collected."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, Phase, settings
from schemathesis import Case
from schemathesis.generation.feedback import NO_FEEDBACK
from schemathesis.pytest._test_builder import build_operation_test
from schemathesis.schemas import APIOperation, BaseSchema


def each_operation(document: BaseSchema) -> pytest.MarkDecorator:
    """Parametrize a test over `operation`."""
    operations = [each.ok() for each in document.get_all_operations()]
    return pytest.mark.parametrize("operation", operations, ids=[each.label for each in operations])


def check_operation(operation: APIOperation, check: Callable[[Case], None], examples: int) -> None:
    """Check what the document's examples and limits make, and some more requests at random, always the same ones."""

    @settings(
        max_examples=examples,
        deadline=None,
        derandomize=True,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    def test(case: Case) -> None:
        check(case)

    config = operation.schema.config
    build_operation_test(config=config, operation=operation, test_func=test, given_kwargs={}, feedback=NO_FEEDBACK)()
