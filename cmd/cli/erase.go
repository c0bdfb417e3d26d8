package cli

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/spf13/cobra"

	"github.com/weirstream/weir/cmd/config"
	"github.com/weirstream/weir/cmd/node"
)

func newErase() *cobra.Command {
	var addr string
	cmd := &cobra.Command{
		Use: "erase SUBJECT", Short: "Make the encrypted values of a subject unreadable for ever", Args: cobra.ExactArgs(1),
		Long: `Shreds the key under which the values of a subject were encrypted (fields that
are sensitive: encrypt), in a running weir. A log cannot delete; without the key
the values can never be read again, in the log, in SQL and in every backup of
them. There is no way back.

SUBJECT is a value of the subject's field, as clients write it or as it stands in
the log. With - it is read from standard input, which keeps a card number out of
the shell's history. Events that come later get a new key.`,
		Example: `  weir erase customer-4711
  weir erase - < subject.txt`,
		RunE: func(cmd *cobra.Command, args []string) error { return runErase(cmd, args[0], addr) },
	}
	cmd.Flags().StringVar(&addr, "http-addr", config.Default().HTTPAddr, "`HOST:PORT` of weir's HTTP listener")
	return cmd
}

func runErase(cmd *cobra.Command, subject, addr string) error {
	if subject == "-" {
		line, err := bufio.NewReader(io.LimitReader(cmd.InOrStdin(), 1<<16)).ReadString('\n')
		if err != nil && !errors.Is(err, io.EOF) {
			return fmt.Errorf("reading the subject: %w", err)
		}
		subject = strings.TrimRight(line, "\r\n")
	}
	if subject == "" {
		return mistake{errors.New("the subject is empty")}
	}
	erased, err := askErase(cmd, subject, addr)
	if err != nil {
		return err
	}
	if erased.Keys == 0 {
		return errors.New("there is no key for this subject: nothing of it is encrypted, or it was erased before")
	}
	fmt.Fprintln(cmd.OutOrStdout(), "erased: the subject's encrypted values can never be read again")
	return nil
}

func askErase(cmd *cobra.Command, subject, addr string) (erased node.Erased, err error) {
	body, err := json.Marshal(node.Erasure{Subject: subject})
	if err != nil {
		return erased, err
	}
	req, err := http.NewRequestWithContext(cmd.Context(), http.MethodPost, "http://"+addr+"/v1/erase", bytes.NewReader(body))
	if err != nil {
		return erased, mistake{fmt.Errorf("--http-addr %q: expected HOST:PORT", addr)}
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return erased, fmt.Errorf("asking weir to erase: %w (is `weir run` up? another address: --http-addr)", err)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil {
		return erased, fmt.Errorf("asking weir to erase: %w", err)
	}
	if resp.StatusCode != http.StatusOK {
		var problem struct{ Detail string }
		if json.Unmarshal(answer, &problem) == nil && problem.Detail != "" {
			return erased, fmt.Errorf("weir at %s did not erase: %s", addr, problem.Detail)
		}
		return erased, fmt.Errorf("weir at %s did not erase: %s", addr, resp.Status)
	}
	if err := json.Unmarshal(answer, &erased); err != nil {
		return erased, fmt.Errorf("weir at %s did not say what it erased: %w", addr, err)
	}
	return erased, nil
}
