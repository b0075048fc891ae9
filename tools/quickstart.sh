#!/bin/sh
# Builds ringbus and shows it at work: two subscribers and an emitter move a text file line by line and a large
# binary file whole, then a contact, a signal, a look at the bus and a first latency figure.
#
# Usage: tools/quickstart.sh [TEXTFILE]
# Leaves build-quickstart/ in the source tree, nothing in /dev/shm and no process.
set -eu

fail() {
	echo "quickstart: $*" >&2
	exit 1
}

step() {
	echo
	echo "== $*"
}

case ${1-} in
-h | --help)
	echo "Usage: $0 [TEXTFILE]"
	echo "Builds ringbus, sends TEXTFILE and a large binary file over a private bus, and cleans up."
	exit 0
	;;
esac
[ $# -le 1 ] || fail "at most one argument, the text file to send"

text=${1-/var/lib/dpkg/status}
if [ ! -f "$text" ] || [ ! -r "$text" ]; then
	fail "cannot read the text file $text"
fi
[ -s "$text" ] || fail "$text is empty, so there is nothing to send line by line"
text=$(readlink -f -- "$text")
cd -- "$(dirname -- "$0")/.."
source=$(pwd)
build=$source/build-quickstart

# ---- everything that is started or made, and its end

pids= # of those that nobody has waited for yet
work=
shm=
cleanup() {
	status=$?
	trap - EXIT INT TERM HUP
	for pid in $pids; do
		kill "$pid" 2>/dev/null || :
	done
	for pid in $pids; do
		wait "$pid" 2>/dev/null || :
	done
	[ -z "$work" ] || rm -rf -- "$work"
	[ -z "$shm" ] || rm -rf -- "$shm"
	exit "$status"
}

# Waits for a process and forgets it: its number may soon be that of a stranger.
reap() {
	ended=0
	wait "$1" || ended=$?
	others=
	for pid in $pids; do
		[ "$pid" = "$1" ] || others="$others $pid"
	done
	pids=$others
	return "$ended"
}

trap cleanup EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

# ---- build

step "Looking for what the build needs"
sh tools/deps.sh
echo "All there."

step "Building in $build"
log=$build.log
if [ ! -f "$build/build.ninja" ]; then
	rm -rf -- "$build"
	meson setup "$build" --buildtype=release -Dtests=false >"$log" 2>&1 || {
		cat "$log" >&2
		fail "meson could not configure the build"
	}
fi
ninja -C "$build" >"$log" 2>&1 || {
	cat "$log" >&2
	fail "the build failed"
}
rm -f -- "$log"
PATH=$build/tools:$PATH
bench=$build/bench/ringbus-bench
[ -x "$bench" ] || fail "the build made no bench/ringbus-bench"
echo "$(ringbus --version), with ringbusd, shm-inspect and ringbus-bench."

# ---- the bus

shm=$(mktemp -d /dev/shm/ringbus-quickstart.XXXXXX)
work=$(mktemp -d)
RINGBUS_DIR=$shm
RINGBUS_PORT=$(python3 -c 'import socket
s = socket.socket()
s.bind(("127.0.0.1", 0))
print(s.getsockname()[1])')
export RINGBUS_DIR RINGBUS_PORT

# Waits for $1, which is there when the rest of "$@" succeeds; fails after 10 seconds.
until_true() {
	what=$1
	shift
	tries=0
	until "$@" >/dev/null 2>&1; do
		tries=$((tries + 1))
		[ "$tries" -lt 500 ] || fail "waited in vain for $what"
		sleep 0.02
	done
}

# Waits for a subscriber and compares what it got.
finish() {
	reap "$1" || fail "the subscriber that wrote $2 ended with status $?"
	cmp -- "$3" "$2" || fail "$2 is not what was sent"
}

step "Starting the service of a private bus on port $RINGBUS_PORT"
ringbusd --quiet --port "$RINGBUS_PORT" &
service=$!
pids="$pids $service"
until_true "the service" ringbus ls --quiet
echo "ringbusd is process $service; its region lies in $RINGBUS_DIR."

# ---- a text file, line by line, from one process to two others

# The last line may lack its newline: what is sent and compared is whole lines.
# shellcheck disable=SC1003
sed -e '$a\' -- "$text" >"$work/text"
lines=$(wc -l <"$work/text")
step "One emitter sends $text to two subscribers, $lines lines as $lines messages"
ringbus subscribe quickstart.text --count "$lines" --timeout 60 >"$work/text.1" &
first=$!
ringbus subscribe quickstart.text --count "$lines" --timeout 60 >"$work/text.2" &
second=$!
pids="$pids $first $second"
ringbus emit quickstart.text --wait-subscribers 2 --lines -v <"$work/text" ||
	fail "the emitter failed"
finish "$first" "$work/text.1" "$work/text"
finish "$second" "$work/text.2" "$work/text"
echo "Both got every line, byte for byte."

# ---- a large binary file, as one message

cat "$build/lib/libringbus.a" "$build/tools/ringbus" "$build/tools/ringbusd" >"$work/binary"
find /usr/lib /usr/bin -type f -size +64k -print 2>/dev/null | LC_ALL=C sort >"$work/list"
while [ "$(wc -c <"$work/binary")" -lt 41943040 ] && read -r file; do
	cat -- "$file" >>"$work/binary" 2>/dev/null || :
done <"$work/list"
head -c 41943040 "$work/binary" >"$work/whole"
bytes=$(wc -c <"$work/whole")
[ "$bytes" -ge 33554432 ] || fail "found too few files for a binary file of 32 MiB"
step "The same with one binary message of $bytes bytes (the build and files of /usr/lib)"
ringbus subscribe quickstart.binary --format raw --count 1 --timeout 60 >"$work/binary.1" &
first=$!
ringbus subscribe quickstart.binary --format raw --count 1 --timeout 60 >"$work/binary.2" &
second=$!
pids="$pids $first $second"
ringbus emit quickstart.binary --wait-subscribers 2 -v <"$work/whole" || fail "the emitter failed"
finish "$first" "$work/binary.1" "$work/whole"
finish "$second" "$work/binary.2" "$work/whole"
rm -f -- "$work"/binary* "$work/whole"
echo "Both got it, byte for byte."

# ---- a contact and a signal, there and back

step "A contact there and back"
ringbus listen --name asked --count 1 --timeout 60 >"$work/question" &
first=$!
ringbus listen --name asking --count 1 --timeout 60 >"$work/answer" &
second=$!
pids="$pids $first $second"
ringbus contact --wait asked "hello"
reap "$first" || fail "the one who was asked failed"
ringbus contact --wait asking "you said: $(cat "$work/question")"
reap "$second" || fail "no answer came"
[ "$(cat "$work/answer")" = "you said: hello" ] || fail "the answer was wrong"
cat "$work/answer"

step "A signal there and back"
ringbus wait-signal --name called --timeout 60 >"$work/call" &
first=$!
ringbus wait-signal --name calling --timeout 60 >"$work/return" &
second=$!
pids="$pids $first $second"
ringbus signal --wait called
reap "$first" || fail "the one who was called failed"
ringbus signal --wait calling
reap "$second" || fail "no signal came back"
[ "$(cat "$work/call" "$work/return" | tr '\n' ' ')" = "1 1 " ] || fail "the signals were miscounted"
echo "1 signal went, and 1 came back."

# ---- a look at the bus

step "What is on the bus while a subscriber waits: ringbus ls"
ringbus subscribe quickstart.look --name onlooker --timeout 60 >/dev/null 2>&1 &
look=$!
pids="$pids $look"
ringbus emit quickstart.look --wait-subscribers 1 "a message"
ringbus ls
step "Its rings: shm-inspect rings"
shm-inspect rings
kill "$look"
reap "$look" || fail "the onlooker ended with status $?"

# ---- a first figure

step "A first latency figure, beside a bare cache line between two processes (64-byte messages)"
"$bench" rtt --transport line,ringbus --size 64 &
figure=$!
pids="$pids $figure"
reap "$figure" || fail "the benchmark failed"

kill "$service"
reap "$service" || fail "ringbusd ended with status $?"

step "Done. Try next"
echo "  export PATH=$build/tools:\$PATH"
echo "  ringbus subscribe news              # in one terminal; starts ringbusd by itself"
echo "  ringbus emit news \"hello\"           # in another"
echo "  ./tests/run.sh                      # all tests"
