package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
)

// rest is a running weir's REST API.
type rest struct{ httpAddr string }

// do sends a request to a running weir; its error is a person's mistake where the
// answer says so.
func (f *rest) do(ctx context.Context, method, path, contentType string, body io.Reader) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, method, "http://"+f.httpAddr+path, body)
	if err != nil {
		return nil, mistake{fmt.Errorf("--http-addr %q: expected HOST:PORT", f.httpAddr)}
	}
	if contentType != "" {
		req.Header.Set("Content-Type", contentType)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, fmt.Errorf("asking weir: %w (is `weir run` up? another address: --http-addr)", err)
	}
	if resp.StatusCode/100 == 2 {
		return resp, nil
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	var problem struct {
		Detail string
		Errors []struct{ Location, Message string }
	}
	switch {
	case err != nil || json.Unmarshal(text, &problem) != nil || problem.Detail == "":
		return nil, fmt.Errorf("asking weir at %s: %s", f.httpAddr, resp.Status)
	case len(problem.Errors) > 1: // the detail has the first of them
		lines := make([]string, len(problem.Errors))
		for i, e := range problem.Errors {
			lines[i] = e.Message
			if at := strings.TrimPrefix(strings.TrimPrefix(e.Location, "body"), "."); at != "" {
				lines[i] = at + ": " + e.Message
			}
		}
		return nil, mistake{errors.New(strings.Join(lines, "\n"))}
	case resp.StatusCode < 500:
		return nil, mistake{errors.New(problem.Detail)}
	}
	return nil, errors.New(problem.Detail)
}

func (f *rest) call(ctx context.Context, method, path, contentType string, body io.Reader, into any) error {
	resp, err := f.do(ctx, method, path, contentType, body)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if err := json.NewDecoder(resp.Body).Decode(into); err != nil {
		return fmt.Errorf("asking weir at %s: %w", f.httpAddr, err)
	}
	return nil
}

func (f *rest) get(ctx context.Context, path string, into any) error {
	return f.call(ctx, http.MethodGet, path, "", nil, into)
}

func (f *rest) post(ctx context.Context, path string, question, into any) error {
	body, err := json.Marshal(question)
	if err != nil {
		return err
	}
	return f.call(ctx, http.MethodPost, path, "application/json", bytes.NewReader(body), into)
}
