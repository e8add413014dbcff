# Run by `unshare` in namespaces of its own: makes a root of the paths given and runs a command in it without privileges.
#   FOLDER LINKS READABLE DEVICES link... path... device... command...
# FOLDER can be written; the three numbers say how many links, paths to read and devices follow.
set -e
folder=$1 links=$2 readable=$3 devices=$4
shift 4
root=$folder.root
mkdir -p "$root"
mount --make-rprivate /
mount -t tmpfs -o mode=0755,nosuid,nodev tmpfs "$root"
bind() { # PATH OPTIONS
  if [ -d "$1" ]; then
    mkdir -p "$root$1"
  else
    mkdir -p "$root${1%/*}"
    : >"$root$1"
  fi
  mount --bind "$1" "$root$1"
  [ -z "$2" ] || mount -o "remount,bind,$2" "$root$1"
}
while [ "$links" -gt 0 ]; do
  ln -s "$(readlink "$1")" "$root$1"
  links=$((links - 1))
  shift
done
while [ "$readable" -gt 0 ]; do
  bind "$1" ro,nosuid,nodev
  readable=$((readable - 1))
  shift
done
while [ "$devices" -gt 0 ]; do
  bind "$1" ''
  devices=$((devices - 1))
  shift
done
bind "$folder" nosuid,nodev
mkdir -p "$root/tmp"
# Without a capability nothing inside can leave this root, and the kernel makes no user namespace below one.
exec chroot "$root" setpriv --no-new-privs --inh-caps=-all --ambient-caps=-all --bounding-set=-all -- \
  env --chdir="$folder" "$@"
