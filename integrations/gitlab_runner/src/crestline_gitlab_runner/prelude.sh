# Sourced before a runner's script that runs on the runner's own machine: variables that a job chose must not steer the
# programs there (PATH, LD_PRELOAD, GIT_SSH_COMMAND ...), so only those with names of GitLab's own are exported.
export() {
  local assignment
  for assignment; do
    case ${assignment%%=*} in
    CI | CI_* | GITLAB_* | FF_* | RUNNER_* | CACHE_* | ARTIFACT_* | GIT_LFS_SKIP_SMUDGE | GIT_STRATEGY | GIT_DEPTH)
      builtin export "$assignment"
      ;;
    esac
  done
}
. "$1"
