#!/bin/sh
# Print what CHANGELOG.md says about one version, without the heading: .github/release_notes.sh 0.2.0
set -eu
cd "$(dirname "$0")/.."

notes=$(awk -v heading="## [$1]" '
    /^## / { inside = index($0, heading) == 1; next }
    inside && (NF || begun) { begun = 1; print }
' CHANGELOG.md)
[ -n "$notes" ] || { echo "CHANGELOG.md says nothing about version $1." >&2; exit 1; }
printf '%s\n' "$notes"
