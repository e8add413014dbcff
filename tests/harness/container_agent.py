"""What `container_shell.py` runs in the container, with its Python: a request a line, an answer a line.

A command's output goes to files, since a process that it leaves behind would keep a pipe open.
"""

import base64
import json
import os
import pwd
import subprocess
import sys
import tempfile
import threading

_writing = threading.Lock()


def answer(request):
    user = pwd.getpwnam(request["user"])
    with tempfile.TemporaryFile() as given, tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        for stream in (given, out, err):
            os.fchown(stream.fileno(), user.pw_uid, user.pw_gid)
        given.write(base64.b64decode(request["input"]))
        given.seek(0)
        try:
            status = subprocess.call(
                request["argv"],
                stdin=given,
                stdout=out,
                stderr=err,
                cwd=request["cwd"],
                env={**os.environ, "HOME": user.pw_dir, **request["env"]},
                user=user.pw_uid,
                group=user.pw_gid,
                extra_groups=os.getgrouplist(user.pw_name, user.pw_gid),
                start_new_session=True,
            )
        except OSError as error:
            status = 126 if isinstance(error, PermissionError) else 127
            err.write(str(error).encode())
        told = {name: base64.b64encode(contents(file)).decode() for name, file in (("stdout", out), ("stderr", err))}
    done = {"number": request["number"], "exit_status": status if status >= 0 else 128 - status, **told}
    with _writing:
        sys.stdout.write(json.dumps(done) + "\n")
        sys.stdout.flush()


def contents(file):
    file.seek(0)
    return file.read()


for line in sys.stdin:
    threading.Thread(target=answer, args=[json.loads(line)], daemon=True).start()
