#!/bin/sh
# Stands in for a program in the tests of src/deploy/program.rs. It takes `--listen ADDRESS` or its variable, and `--one`,
# as clap does; then it wants state.
for word in "$@"; do
    case "$word" in
    --help)
        printf '      --listen <ADDRESS>\n          Where [env:\n          WEFT_LISTEN=]\n'
        printf '      --data-dir <FOLDER>  Where [env: WEFT_DATA_DIR=]\n'
        exit 0
        ;;
    --listen=*:* | --data-dir=* | --one) ;;
    *)
        echo "error: unexpected argument '$word'" >&2
        exit 2
        ;;
    esac
done
if [ "$WEFT_LISTEN" = 0.0.0.0:1 ]; then
    echo "error: needs --one" >&2
    exit 1
fi
echo "$WEFT_DATA_DIR holds no cluster" >&2
exit 1
