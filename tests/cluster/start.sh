#!/bin/bash
# Brings the parts up in order and says CLUSTER READY when a job can be submitted.
set -euo pipefail

part() { supervisorctl start "$@" >/dev/null; }
secret() { install -m 400 -o "$1" /dev/null "$2" && head -c 1024 /dev/urandom >"$2"; }

secret munge /etc/munge/munge.key
secret slurm /var/lib/slurm/jwt.key
part munged
part mariadbd
until mariadb-admin ping >/dev/null 2>&1; do sleep 0.1; done
mariadb -e "CREATE DATABASE IF NOT EXISTS slurm_acct_db; CREATE USER IF NOT EXISTS slurm@localhost;
            GRANT ALL ON slurm_acct_db.* TO slurm@localhost"
part slurmdbd
until sacctmgr -n list cluster >/dev/null 2>&1; do sleep 0.1; done
manage() { sacctmgr -iQ "$@" >/dev/null; }
manage add cluster test
manage add account proj,other
manage add user "$(printf '%s,' user{01..30})bob" account=proj
manage add user alice account=proj,other defaultaccount=proj
manage add user observer account=proj adminlevel=operator
part slurmctld 'slurmd:*' slurmrestd sshd
until [ "$(sinfo -hN -p debug -t idle -o %N | wc -l)" = 3 ]; do sleep 0.1; done
echo CLUSTER READY
