// A worker for streamgauge: one JSON line in, one answer out. Entries are handled at the same time, as many as
// --concurrency permits.
//
//	redis-cli XADD orders '*' amount 3
//	go build -o worker examples/worker.go
//	streamgauge consume --redis-url redis://localhost:6379 --stream orders --group billing --concurrency 16 \
//	  --worker ./worker
package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"sync"
)

var errRejected = errors.New("rejected")

type entry struct {
	ID         string          `json:"id"`
	Deliveries int             `json:"deliveries"`
	Fields     json.RawMessage `json:"fields"`
}

func handle(e entry) error {
	// A list of pairs if a name occurs twice, and {"base64": "..."} in place of a value that is not UTF-8; this worker
	// expects neither.
	var fields map[string]string
	if err := json.Unmarshal(e.Fields, &fields); err != nil {
		return fmt.Errorf("%w: unexpected fields: %v", errRejected, err)
	}
	amount, found := fields["amount"]
	if !found {
		return fmt.Errorf("%w: the entry has no amount", errRejected)
	}
	_, err := strconv.Atoi(amount)
	// Do the work here, so that doing it twice does no harm.
	return err
}

func answer(e entry) string {
	err := handle(e)
	text := "ok " + e.ID
	if errors.Is(err, errRejected) {
		text = fmt.Sprintf("dead %s %v", e.ID, err)
	} else if err != nil {
		text = fmt.Sprintf("retry %s %v", e.ID, err)
	}
	return strings.ReplaceAll(text, "\n", " ") + "\n"
}

func main() {
	input := bufio.NewReader(os.Stdin)
	var output sync.Mutex
	var running sync.WaitGroup
	for {
		line, err := input.ReadBytes('\n')
		if err == io.EOF {
			break
		}
		var e entry
		if err := json.Unmarshal(line, &e); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		running.Add(1)
		go func() {
			defer running.Done()
			text := answer(e)
			output.Lock()
			defer output.Unlock()
			// Standard output is for answers only; use standard error for the log.
			os.Stdout.WriteString(text)
		}()
	}
	running.Wait()
}
