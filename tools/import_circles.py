"""A contract for import-linter: no module imports itself through others, `TYPE_CHECKING` and function bodies included.

import-linter's `acyclic_siblings` compares the children of a package: it misses circles through an `__init__.py`.
"""

from collections.abc import Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from itertools import pairwise
from typing import Any

from grimp import ImportGraph
from importlinter import Contract, ContractCheck, fields, output
from importlinter.application import contract_utils
from importlinter.application.contract_utils import AlertLevel


class NoCirclesContract(Contract):
    """Forbids import circles in all root packages.

    `ignore_imports` lists the imports that still close one. An entry that matches no import is an error.
    """

    ignore_imports = fields.SetField(subfield=fields.ImportExpressionField(), required=False)

    def check(self, graph: ImportGraph, verbose: bool) -> ContractCheck:
        """Find the circles that the ignored imports do not close."""
        ignored: Any = self.ignore_imports
        removal = contract_utils.remove_ignored_imports_and_report(graph, ignored, AlertLevel.ERROR)
        imports = {module: graph.find_modules_directly_imported_by(module) for module in sorted(graph.modules)}
        found = [
            [(importer, imported, _lines(graph, importer, imported)) for importer, imported in pairwise(circle)]
            for circle in find_circles(imports)
        ]
        return ContractCheck(
            kept=not found, ignored_import_count=removal.ignored_import_count, metadata={"circles": found}
        )

    def render_broken_contract(self, check: ContractCheck) -> None:
        """Print each circle, one import a line."""
        for circle in check.metadata["circles"]:
            output.print_error(f"Import circle of {len(circle)} modules:")
            for importer, imported, lines in circle:
                output.print_error(f"  {importer} -> {imported} (line {lines})", bold=False)
            output.new_line()


def find_circles(imports: Mapping[str, set[str]]) -> Iterator[list[str]]:
    """Yield circles, each from a module through what it imports back to it, until the imports of none are left.

    Args:
        imports: the modules that each module imports.
    """
    left = {module: set(imported) for module, imported in imports.items()}
    while True:
        try:
            TopologicalSorter({module: sorted(imported) for module, imported in left.items()}).prepare()
        except CycleError as error:
            circle = error.args[1][::-1]
            for importer, imported in pairwise(circle):
                left[importer].remove(imported)
            yield circle
        else:
            return


def _lines(graph: ImportGraph, importer: str, imported: str) -> str:
    details = graph.get_import_details(importer=importer, imported=imported)
    return ", ".join(str(each["line_number"]) for each in details)
