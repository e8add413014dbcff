"""A CI job against plain FirecREST in pyfirecrest's own calls: check the system, submit, wait, print the output, exit.

Beside it `ci_script.sh` does the same by `crestline run`. Both read FIRECREST_URL, AUTH_TOKEN_URL, FIRECREST_SYSTEM,
FIRECREST_CLIENT_ID and FIRECREST_CLIENT_SECRET.
"""

import os
import sys

from firecrest import ClientCredentialsAuth
from firecrest.v2 import Firecrest


def main(script: str) -> int:
    system = os.environ["FIRECREST_SYSTEM"]
    client = Firecrest(
        firecrest_url=os.environ["FIRECREST_URL"],
        authorization=ClientCredentialsAuth(
            os.environ["FIRECREST_CLIENT_ID"], os.environ["FIRECREST_CLIENT_SECRET"], os.environ["AUTH_TOKEN_URL"]
        ),
    )
    health = next(each["servicesHealth"] for each in client.systems() if each["name"].lower() == system.lower())
    broken = [service["serviceType"] for service in health or () if not service["healthy"]]
    if broken:
        print(f"{system} is not available: {', '.join(broken)}")
        return 1

    user = client.userinfo(system)["user"]["name"]
    systems = {each["name"].lower(): each for each in client.systems()}
    home = next(each["path"] for each in systems[system.lower()]["fileSystems"] if each["defaultWorkDir"])
    job = client.submit(system, working_dir=f"{home}/{user}", script_local_path=script)
    print(f"submitted job {job['jobId']}")
    state = client.wait_for_job(system, str(job["jobId"]))[0]["status"]["state"]

    output = client.job_metadata(system, str(job["jobId"]))[0]["standardOutput"]
    print(client.view(system, output))
    print(f"job {job['jobId']} ended as {state}")
    return 0 if state == "COMPLETED" else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
