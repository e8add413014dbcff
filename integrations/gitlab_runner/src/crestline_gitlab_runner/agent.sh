# Runs what the driver puts into in/ and publishes what comes of it in out/: whole files only, that never change again.
#   in/NAME.go     a script for sh; complete once its last line is "# end", or "# end of all" for the last one
#   in/NAME.stop   end it: SIGTERM, and SIGKILL after the grace time
#   in/beat        written again and again while the runner lives
#   out/NAME.000001, .000002 ...   its output, in pieces
#   out/NAME.rc-CODE-PIECES-WHY   it has ended; WHY is "own", "stopped" or "terminated"
# Exit codes: 0 done, 90 the runner stayed away, 91 the workspace is gone, 92 it cannot be written, 94 second start.
umask 077
cd "$workspace" 2>/dev/null && [ -f in/beat ] || { echo "crestline: no $workspace: nothing to do"; exit 91; }
mkdir log 2>/dev/null || { [ -d log ] && exit 94 || exit 92; }
mkdir -p out || exit 92

alive() {
  [ -f in/beat ] || return 1
  written=$(stat -c %Y in/beat 2>/dev/null) || return 1
  [ $(($(date +%s) - written)) -le "$ttl" ]
}

publish() { # NAME: the output since the last time
  size=$(wc -c <"log/$1")
  while [ "$size" -gt "$sent" ]; do
    part=$((size - sent))
    [ "$part" -le 1048576 ] || part=1048576
    pieces=$((pieces + 1))
    tail -c +$((sent + 1)) "log/$1" | head -c "$part" >"log/$1.piece" || return
    mv "log/$1.piece" "out/$1.$(printf %06d "$pieces")" || return
    sent=$((sent + part))
  done
}

signal() { # SIGNAL PID: to the process group
  kill -s "$1" -- "-$2" 2>/dev/null || kill -s "$1" "$2" 2>/dev/null
}

wait_for() { # PID: its exit code; a signal to us does not end the waiting
  interrupted=
  wait "$1"
  code=$?
  while [ -n "$interrupted" ] && [ "$code" -gt 128 ] && kill -0 "$1" 2>/dev/null; do
    interrupted=
    wait "$1"
    code=$?
  done
  return "$code"
}

supervise() { # NAME: run it to its end
  trap 'why=terminated; ended=1; interrupted=1' TERM
  name=$1 sent=0 pieces=0 why=own ended='' killed='' pause=0.1 looks=0
  : >"log/$name"
  (
    trap 'interrupted=1' TERM
    setsid sh "in/$name.go" >"log/$name" 2>&1 </dev/null &
    echo $! >"log/$name.pid"
    wait_for $!
    echo $? >"log/$name.code.new"
    mv "log/$name.code.new" "log/$name.code"
  ) &
  until [ -f "log/$name.code" ]; do
    sleep "$pause"
    publish "$name"
    looks=$((looks + 1))
    [ "$looks" -ne 50 ] || pause=0.2
    [ "$looks" -ne 100 ] || pause=0.5
    if [ -z "$ended" ] && { [ -f "in/$name.stop" ] || [ ! -d in ]; }; then why=stopped ended=1; fi
    if [ -n "$ended" ] && [ -f "log/$name.pid" ]; then
      if [ -z "$killed" ]; then
        signal TERM "$(cat "log/$name.pid")"
        killed=$(date +%s)
      elif [ $(($(date +%s) - killed)) -ge "$grace" ]; then
        signal KILL "$(cat "log/$name.pid")"
      fi
    fi
    [ -d log ] || return
  done
  read -r code <"log/$name.code"
  # A scheduler that ends the job may have reached the script a moment before us.
  [ "$code" -eq 0 ] || sleep 0.3
  signal TERM "$(cat "log/$name.pid")"
  publish "$name"
  rm -f "in/$name.script" "in/$name.go"
  : >"out/$name.rc-$code-$pieces-$why"
  rm -f "log/$name" "log/$name.pid"
  : >"log/$name.done"
}

release() { # make removable what is ours: a job may have left directories that it cannot write
  for each in b-* c-*; do
    [ ! -d "$each" ] || find "$each" -type d ! -perm -700 -exec chmod u+rwx {} \; 2>/dev/null
  done
}

finish() { # CODE
  for pid in log/*.pid; do
    [ ! -f "$pid" ] || signal TERM "$(cat "$pid")"
  done
  [ "$1" -eq 0 ] || sleep 1
  for pid in log/*.pid; do
    [ ! -f "$pid" ] || signal KILL "$(cat "$pid")"
  done
  rm -f in/*.script in/*.go
  release
  exit "$1"
}

forget() { # LAST: pieces up to this one have been read
  for piece in out/*.[0-9]*; do
    [ ! -f "$piece" ] || [ "${piece#out/}" \> "$1" ] || [ "${piece%.*}" != "out/${1%.*}" ] || rm -f "$piece"
  done
}

terminated='' last='' running='' round=0 forgotten=''
trap 'terminated=1' TERM
while :; do
  for go in in/*.go; do
    [ -f "$go" ] || continue
    name=${go#in/} name=${name%.go}
    [ ! -e "log/$name.seen" ] || continue
    case $(tail -n 1 "$go") in
    "# end") ;;
    "# end of all") last=$name ;;
    *) continue ;;
    esac
    : >"log/$name.seen"
    supervise "$name" &
    running=$name round=0
  done
  [ -z "$last" ] || [ ! -f "log/$last.done" ] || { release; exit 0; }
  if [ -n "$terminated" ]; then
    busy=
    for pid in log/*.pid; do [ ! -f "$pid" ] || busy=1; done
    [ -n "$busy" ] || { release; exit 143; }
  fi
  [ -d in ] || finish 91
  [ -z "$running" ] || [ ! -f "log/$running.done" ] || running='' round=0
  if [ $((round % 10)) -eq 9 ]; then
    alive || { echo "crestline: the runner stayed away for $ttl s"; finish 90; }
    read -r beat read_up_to <in/beat
    [ -z "$read_up_to" ] || [ "$read_up_to" = "$forgotten" ] || { forget "$read_up_to"; forgotten=$read_up_to; }
  fi
  round=$((round + 1))
  # What follows a command, and the first of all, comes soon; the rest may come hours later.
  if [ "$round" -lt 100 ]; then sleep 0.1; elif [ "$round" -lt 200 ]; then sleep 0.2; else sleep 0.5; fi
done
