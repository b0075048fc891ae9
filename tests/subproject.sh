#!/bin/sh
# A project that uses this tree as a Meson subproject builds and runs: subproject.sh ROOT
set -eu
root=$1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$work/subprojects/ringbus"
# only what a release has, no build directories
for part in meson.build meson_options.txt include lib tools tests bench LICENSE README.md; do
	[ ! -e "$root/$part" ] || cp -R "$root/$part" "$work/subprojects/ringbus/"
done
cat >"$work/meson.build" <<'END'
project('consumer', 'c', default_options: ['default_library=static'])
ringbus = dependency('ringbus', fallback: ['ringbus', 'ringbus_dep'],
  default_options: ['tools=false', 'tests=false', 'bench=false'])
test('consumer', executable('consumer', 'consumer.c', dependencies: ringbus))
END
cat >"$work/consumer.c" <<'END'
#include <ringbus.h>
#include <errno.h>
#include <string.h>

int main(void)
{
	struct ringbus_node_options options = {.size = sizeof(options), .port = 9, .directory = "/nonexistent"};
	struct ringbus_node *node;

	return strcmp(ringbus_version(), "0.1.0") != 0 || ringbus_node_open(&node, &options) != -ECONNREFUSED;
}
END
unset RINGBUS_DIR RINGBUS_PORT
cd "$work"
meson setup build --wrap-mode=nodownload --force-fallback-for=ringbus >log 2>&1 || { cat log; exit 1; }
ninja -C build >log 2>&1 || { cat log; exit 1; }
meson test -C build >log 2>&1 || { cat log build/meson-logs/testlog.txt; exit 1; }
echo "built and run as a subproject"
