#!/bin/bash
# A worker for streamgauge: one JSON line in, one answer out.
#
# redis-cli XADD orders '*' amount 3
# streamgauge consume --redis-url redis://localhost:6379 --stream orders --group billing --worker 'bash examples/worker.sh'

while IFS= read -r line; do
    # The line begins with {"id":"...". Take jq for more than this.
    id=${line#*\"id\":\"} && id=${id%%\"*}
    case $line in
        *'"amount":"'*)
            amount=${line#*\"amount\":\"} && amount=${amount%%\"*}
            if [[ $amount =~ ^[0-9]+$ ]]; then
                # Do the work here, so that doing it twice does no harm. Standard output is for answers only.
                echo "ok $id"
            else
                echo "retry $id the amount is not a number"
            fi ;;
        *) echo "dead $id the entry has no amount" ;;
    esac
done
