// Command cost answers, a line each, what the calls on its standard input cost by
// the catalogue, so that others' arithmetic can be compared with ours:
//
//	{"model":"openai/gpt-4o","at":"2026-11-01T00:00:00Z","prompt":500,"completion":100}
//	{"entry":"openai/gpt-4o","cost":"0.00225"}
//
// A call may name its service tier ("tier":"batch"). The other counts are cached, write, write1h
// and reasoning. A model without an entry is answered with {}.
package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/pikarc/server/embed"
	"github.com/pikarc/server/prices"
)

// question is a call with its tokens, as one line of JSON.
type question struct {
	Model, Tier                                           string
	At                                                    time.Time
	Prompt, Cached, Write, Write1h, Completion, Reasoning int64
}

// answer is the catalogue's entry and what the call costs, both empty for an unknown model.
type answer struct {
	Entry string `json:"entry,omitempty"`
	Cost  string `json:"cost,omitempty"`
}

// main answers questions line by line; the data set's tests compare the answers.
func main() {
	if err := run(os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "Error:", err)
		os.Exit(1)
	}
}

// run answers until the input ends.
func run(in io.Reader, out io.Writer) error {
	catalogue, err := prices.ParseCatalogue(embed.Catalogue())
	if err != nil {
		return err
	}
	questions, buffered := json.NewDecoder(in), bufio.NewWriter(out)
	answers := json.NewEncoder(buffered)
	for {
		var q question
		if err := questions.Decode(&q); errors.Is(err, io.EOF) {
			return buffered.Flush()
		} else if err != nil {
			return err
		}
		a, err := ask(catalogue, q)
		if err != nil {
			return fmt.Errorf("%+v: %w", q, err)
		}
		if err := answers.Encode(a); err != nil {
			return err
		}
	}
}

// ask prices one call.
func ask(catalogue *prices.Catalogue, q question) (answer, error) {
	m, ok := catalogue.Find(q.Model)
	if !ok {
		return answer{}, nil
	}
	cost, err := m.Rates(q.At, q.Tier).Cost(prices.Tokens{
		Prompt: q.Prompt, Cached: q.Cached, CacheWrite: q.Write, CacheWrite1h: q.Write1h,
		Completion: q.Completion, Reasoning: q.Reasoning,
	})
	return answer{m.Provider.ID + "/" + m.ID, cost.String()}, err
}
