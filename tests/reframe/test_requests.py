"""What a suite costs in requests and bytes."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from crestline.testing.firecrest import PlainFirecrest
from harness.parts import require
from harness.reframe_suite import Done, Suite

CHECKS = Path(__file__).parent / "checks"

MOST = 1.2
"""requests for each test that only runs, where a hundred of them run"""
MOST_FOR_20_ON_A_GATEWAY = 20
MOST_FOR_20_ON_PLAIN_FIRECREST = 50
"""requests for 20 tests that only run; docs/how-to/reframe.md publishes both"""
POLL_INTERVAL = 2.0
"""the shortest, in seconds, as `crestline_reframe.options` sets it"""
QUIET = 15
"""seconds that 20 tests take at most where nothing else runs"""
REQUESTS_OF_A_ROUND = 3
"""a look at the jobs, the submission of those that are ready, and the results of those that have ended"""


def rounds_of_a_long_run(done: Done) -> float:
    """Requests that a run may add on a busy machine, where tests become ready, and end, a few at a time."""
    return REQUESTS_OF_A_ROUND * max(0.0, done.seconds - QUIET) / POLL_INTERVAL


@pytest.mark.parametrize(
    ("tests", "most"),
    [(20, MOST_FOR_20_ON_A_GATEWAY), (100, MOST * 100)],
)
def test_requests_of_a_suite_on_a_gateway(on_local: Suite, tests: int, most: float) -> None:
    on_local.variables["RFM_TEST_COUNT"] = str(tests)
    done = on_local.run("-c", CHECKS / "many.py", "-r")
    assert done.exit_status == 0, done.output
    assert len(done.results) == tests
    assert done.traffic["requests"] <= most + rounds_of_a_long_run(done)
    share = sum(job["requests"] for job in done.jobs().values())
    assert 0 < share <= done.traffic["requests"]
    assert all(job["run_seconds"] is not None and job["queue_seconds"] is not None for job in done.jobs().values())


@pytest.mark.parametrize(
    ("tests", "most"),
    [
        (20, MOST_FOR_20_ON_PLAIN_FIRECREST),
        pytest.param(100, MOST * 100, marks=pytest.mark.soak),
    ],
)
def test_on_plain_firecrest_every_job_is_a_request_and_little_else(
    on_plain: Suite, plain: PlainFirecrest, tests: int, most: float
) -> None:
    on_plain.variables["RFM_TEST_COUNT"] = str(tests)
    done = on_plain.run("-c", CHECKS / "many.py", "-r")
    assert done.exit_status == 0, done.output
    assert plain.count("POST", "/jobs") == tests == len(plain.jobs())
    assert done.traffic["requests"] <= most + rounds_of_a_long_run(done)


def test_equal_sources_and_built_programs_travel_once_and_never(on_local: Suite, tmp_path: Path) -> None:
    require(shutil.which("gcc") is not None, "there is no `gcc`: install Debian's `gcc` and `libc6-dev`")
    checks = tmp_path / "checks"
    (checks / "src").mkdir(parents=True)
    (checks / "src" / "data").write_bytes(bytes(range(256)) * 4096)
    (checks / "src" / "big.c").write_text(
        '#include <stdio.h>\nstatic const char large[1 << 21] = {1};\nint main(void) { puts(large[0] ? "big" : ""); }\n'
    )
    (checks / "big.py").write_text(
        "import reframe as rfm\nimport reframe.utility.sanity as sn\n\n\n"
        "@rfm.simple_test\nclass Big(rfm.RegressionTest):\n"
        "    n = parameter(range(3))\n    valid_systems = ['*']\n    valid_prog_environs = ['builtin']\n"
        "    sourcepath = 'big.c'\n    build_locally = False\n\n"
        "    @sanity_function\n    def says_big(self):\n        return sn.assert_found('big', self.stdout)\n"
    )
    done = on_local.run("-c", checks, "-r")
    assert done.exit_status == 0, done.output
    mib = 1024 * 1024
    assert mib < done.traffic["bytes_sent"] < 1.3 * mib  # the sources, once
    assert done.traffic["bytes_received"] < 0.5 * mib  # no program of 2 MiB
