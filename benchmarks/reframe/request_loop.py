"""What a backend without batches does for each test, one request after the other: the measure for ours."""

from __future__ import annotations

import io
import tarfile
import time

import firecrest
import httpx

from crestline.client import Site

_HELLO = "#!/bin/bash\n#SBATCH --output=job.out\n#SBATCH --error=job.err\necho Hello\n"


def run(site: Site, home: str, tests: int) -> tuple[float, int]:
    """Seconds and requests for so many tests."""
    token = firecrest.ClientCredentialsAuth(site.client_id, site.client_secret, site.token_url)
    client = httpx.Client(base_url=site.url, timeout=60, trust_env=False)
    count = 0

    def ask(method: str, path: str, **more: object) -> httpx.Response:
        nonlocal count
        count += 1
        headers = {"Authorization": f"Bearer {token.get_access_token()}"}
        return client.request(method, path, headers=headers, **more)  # type: ignore[arg-type]

    ops, jobs = f"/filesystem/{site.system}/ops", f"/compute/{site.system}/jobs"
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w:gz") as tar:
        info = tarfile.TarInfo("job.sh")
        info.size = len(_HELLO)
        tar.addfile(info, io.BytesIO(_HELLO.encode()))
    begin = time.monotonic()
    ids = {}
    for number in range(tests):
        place = f"{home}/loop/{number}"
        ask("DELETE", f"{ops}/rm", params={"path": place})
        ask("POST", f"{ops}/mkdir", json={"path": place, "parent": True})
        ask("POST", f"{ops}/upload", params={"path": place}, files={"file": ("a.tar.gz", archive.getvalue())})
        ask("POST", f"{ops}/extract", json={"path": f"{place}/a.tar.gz", "targetPath": place})
        ask("DELETE", f"{ops}/rm", params={"path": f"{place}/a.tar.gz"})
        job = {"script_path": f"{place}/job.sh", "working_directory": place}
        ids[ask("POST", jobs, json={"job": job}).json()["jobId"]] = place
    waiting = dict(ids)
    while waiting:
        for job_id in list(waiting):
            answer = ask("GET", f"{jobs}/{job_id}")
            if answer.status_code == 200 and answer.json()["jobs"][0]["status"]["state"] in ("COMPLETED", "FAILED"):
                place = waiting.pop(job_id)
                ask("POST", f"{ops}/compress", json={"path": place, "targetPath": f"{place}_pull.tar.gz"})
                ask("GET", f"{ops}/stat", params={"path": f"{place}_pull.tar.gz"})
                ask("GET", f"{ops}/download", params={"path": f"{place}_pull.tar.gz"})
                ask("DELETE", f"{ops}/rm", params={"path": f"{place}_pull.tar.gz"})
    return time.monotonic() - begin, count
