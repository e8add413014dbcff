"""Submits jobs, separately or several as one, as many at a time as the scheduler accepts."""

from __future__ import annotations

import contextlib
import logging
import secrets

import msgspec

from crestline.client import System, measure_traffic
from crestline.model import CrestlineError, Job, JobSpec, SubmitLimitError
from crestline_reframe.batcher import Batcher
from crestline_reframe.connection import RunConnection
from crestline_reframe.journal import Journal
from crestline_reframe.options import Options
from crestline_reframe.packing import EXIT_FILE, pack_script, packs
from crestline_reframe.stage_dirs import StageDirs
from crestline_reframe.staging import prepared
from crestline_reframe.submit_limit import SubmitLimit
from crestline_reframe.tracked_job import Pack, TrackedJob

logger = logging.getLogger(__name__)


class Submitter:
    """Submits jobs of tests whose inputs are on the system.

    Attributes:
        limit: how many jobs can be submitted at present.
        submissions: receives jobs to submit.
    """

    def __init__(self, options: Options, connection: RunConnection, journal: Journal, stage_dirs: StageDirs) -> None:
        self._options = options
        self._connection = connection
        self._journal = journal
        self._stage_dirs = stage_dirs
        self.limit = SubmitLimit()
        if options.pack is None:  # jobs whose inputs were sent together arrive together
            self.submissions = Batcher(self._submit, quiet=0.02, are_all=lambda _: True)
        else:  # the larger the group, the better
            self.submissions = Batcher(self._submit, quiet=1.5, longest=15.0)
        connection.before_use(self._find_limit)

    async def _find_limit(self, system: System) -> None:
        room = await system.remaining_submissions()
        self.limit.set_most(room)
        if room is not None:
            with contextlib.suppress(CrestlineError):  # then only the run's own jobs show which nodes are free
                self.limit.set_busy([node.name for node in await system.nodes() if "IDLE" not in node.states])

    async def _submit(self, batch: list[TrackedJob]) -> None:
        batch = [tracked for tracked in batch if not tracked.is_cancelled]
        packed: list[Pack] = []
        if self._options.pack is not None:
            packed, batch = packs(batch, self._options.pack, self._options.pack_size)
        jobs = [([tracked], self._spec(tracked), tracked.key) for tracked in batch]
        jobs += [(pack.tests, self._pack_spec(pack), self._pack_key(pack)) for pack in packed]
        system = await self._connection.open()
        for group, _, _ in jobs:
            for tracked in group:
                tracked.is_submitting = True
        keys_are_new = all(tracked.is_key_new or tracked.pack is not None for group, _, _ in jobs for tracked in group)
        with measure_traffic() as traffic:
            outcomes = await system.submit_many(
                [spec for _, spec, _ in jobs], [key for _, _, key in jobs], keys_are_new=keys_are_new
            )
        for (group, _, key), outcome in zip(jobs, outcomes, strict=True):
            for tracked in group:
                tracked.requests += traffic.requests / len(jobs) / len(group)
            self._settle(group, key, outcome)

    def _spec(self, tracked: TrackedJob) -> JobSpec:
        script = prepared(tracked, self._stage_dirs, tracked.prologue)
        return JobSpec(script=script, workdir=self._stage_dirs.absolute(tracked.stage_dir))

    def _pack_spec(self, pack: Pack) -> JobSpec:
        scripts = [prepared(tracked, self._stage_dirs, tracked.prologue) for tracked in pack.tests]
        directories = [self._stage_dirs.absolute(tracked.stage_dir) for tracked in pack.tests]
        for tracked in pack.tests:
            tracked.pack = pack
            if pack.kind == "allocation" and EXIT_FILE not in tracked.outputs:
                tracked.outputs = (*tracked.outputs, EXIT_FILE)
        outputs = [(tracked.outputs[0], tracked.outputs[1]) for tracked in pack.tests]
        return JobSpec(script=pack_script(pack.kind, scripts, directories, outputs), workdir=self._stage_dirs.root)

    def _pack_key(self, pack: Pack) -> str:
        key = f"reframe/{self._journal.run}/{secrets.token_hex(8)}"
        self._journal.begins(key, f"{len(pack.tests)} tests from {pack.tests[0].test} on", "pack", "", "")
        for tracked in pack.tests:
            self._journal.packed(tracked.key)
        return key

    def _settle(self, batch: list[TrackedJob], key: str, outcome: Job | CrestlineError) -> None:
        """Apply the outcome of a submission to its jobs."""
        if isinstance(outcome, SubmitLimitError):
            others = len(batch) - 1
            logger.info("%s and %d more wait until the scheduler takes them: %s", batch[0].test, others, outcome)
            for tracked in batch:
                tracked.not_submitted()
            self.limit.refused([tracked.nodes for tracked in batch])
            return
        if isinstance(outcome, CrestlineError):
            for tracked in batch:
                tracked.end(str(outcome))
            return
        self.limit.accepted()
        self._journal.submitted(key, outcome.job_id)
        for tracked in batch:
            if tracked.pack is not None:
                tracked.pack.job_id = outcome.job_id
                tracked.accepted(msgspec.structs.replace(outcome, job_id=tracked.pack.element(tracked)))
                if tracked.pack.kind == "array":
                    self._journal.submitted(tracked.key, tracked.pack.element(tracked))
            else:
                tracked.accepted(outcome)
