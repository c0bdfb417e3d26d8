package console

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
)

func get(t *testing.T, target string, header map[string]string) *http.Response {
	t.Helper()
	r := httptest.NewRequest(http.MethodGet, target, nil)
	for k, v := range header {
		r.Header.Set(k, v)
	}
	w := httptest.NewRecorder()
	Handler().ServeHTTP(w, r)
	return w.Result()
}

func body(t *testing.T, resp *http.Response) []byte {
	t.Helper()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

var reference = regexp.MustCompile(`(?:src|href)="([^"]+)"`)

func TestPageAndItsParts(t *testing.T) {
	resp := get(t, "/", nil)
	if resp.StatusCode != 200 || resp.Header.Get("Content-Type") != "text/html; charset=utf-8" {
		t.Fatalf("/: %s, %s", resp.Status, resp.Header.Get("Content-Type"))
	}
	if got := resp.Header.Get("Cache-Control"); got != "no-cache" {
		t.Errorf("the page may be cached: %q", got)
	}
	page := string(body(t, resp))
	parts := reference.FindAllStringSubmatch(page, -1)
	if len(parts) < 3 {
		t.Fatalf("the page names %d parts; it is not a build: %s", len(parts), page)
	}
	for _, part := range parts {
		resp := get(t, part[1], nil)
		if resp.StatusCode != 200 {
			t.Errorf("%s: %s", part[1], resp.Status)
		}
		if got := resp.Header.Get("Cache-Control"); got != "public, max-age=31536000, immutable" {
			t.Errorf("%s: Cache-Control %q", part[1], got)
		}
	}
	if strings.Contains(page, "<style") || regexp.MustCompile(`<script[^>]*>[^<]`).MatchString(page) || strings.Contains(page, "style=") {
		t.Error("the page has an inline script or style, which its policy forbids")
	}
}

func TestHeaders(t *testing.T) {
	for _, target := range []string{"/", "/licences.txt", "/nothing-here"} {
		h := get(t, target, nil).Header
		csp := h.Get("Content-Security-Policy")
		for _, want := range []string{"default-src 'self'", "script-src 'self'", "style-src 'self'", "frame-ancestors 'none'", "base-uri 'none'"} {
			if !strings.Contains(csp, want) {
				t.Errorf("%s: the policy lacks %q: %s", target, want, csp)
			}
		}
		if strings.Contains(csp, "unsafe") || strings.Contains(csp, "*") || strings.Contains(csp, "http") {
			t.Errorf("%s: the policy is loose: %s", target, csp)
		}
		if h.Get("X-Content-Type-Options") != "nosniff" || h.Get("Referrer-Policy") != "no-referrer" {
			t.Errorf("%s: headers %v", target, h)
		}
	}
}

func TestRefuses(t *testing.T) {
	for _, target := range []string{"/MANIFEST", "/index.html", "/index.html.gz", "/assets/", "/assets/nothing.js", "/v2", "/../go.mod", "//"} {
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		r.URL.Path = target
		w := httptest.NewRecorder()
		Handler().ServeHTTP(w, r)
		if w.Code != http.StatusNotFound {
			t.Errorf("%s: %d", target, w.Code)
		}
	}
	w := httptest.NewRecorder()
	Handler().ServeHTTP(w, httptest.NewRequest(http.MethodPost, "/", nil))
	if w.Code != http.StatusMethodNotAllowed || w.Header().Get("Allow") != "GET, HEAD" {
		t.Errorf("POST /: %d, Allow %q", w.Code, w.Header().Get("Allow"))
	}
	w = httptest.NewRecorder()
	Handler().ServeHTTP(w, httptest.NewRequest(http.MethodHead, "/", nil))
	if w.Code != 200 || w.Body.Len() != 0 || w.Header().Get("Content-Length") == "" {
		t.Errorf("HEAD /: %d, %d bytes", w.Code, w.Body.Len())
	}
}

func TestGzipAndETag(t *testing.T) {
	plain := body(t, get(t, "/", nil))
	resp := get(t, "/", map[string]string{"Accept-Encoding": "br, gzip;q=0.8"})
	if resp.Header.Get("Content-Encoding") != "gzip" || resp.Header.Get("Vary") != "Accept-Encoding" {
		t.Fatalf("not compressed: %v", resp.Header)
	}
	zr, err := gzip.NewReader(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	unzipped, err := io.ReadAll(zr)
	if err != nil || !bytes.Equal(unzipped, plain) {
		t.Fatalf("the compressed page differs (%v)", err)
	}
	tag := resp.Header.Get("ETag")
	for _, header := range []string{tag, "W/" + tag, `"other", ` + tag, "*"} {
		again := get(t, "/", map[string]string{"Accept-Encoding": "gzip", "If-None-Match": header})
		if again.StatusCode != http.StatusNotModified || len(body(t, again)) != 0 {
			t.Errorf("If-None-Match %s: %s", header, again.Status)
		}
	}
	if again := get(t, "/", map[string]string{"If-None-Match": tag}); again.StatusCode != 200 {
		t.Errorf("the compressed form's tag matched the plain one: %s", again.Status)
	}
}

func TestAcceptsGzip(t *testing.T) {
	for accept, want := range map[string]bool{
		"": false, "gzip": true, "GZIP": true, "br": false, "br, gzip": true, "gzip;q=0": false, "gzip; q=0.0": false, "gzip; q=0.5": true,
		"*": true, "*;q=0": false, "gzip;q=0, *": false, "*;q=0, gzip": true, "identity": false, "gzip;q=x": false,
	} {
		if got := acceptsGzip(accept); got != want {
			t.Errorf("acceptsGzip(%q) = %v", accept, got)
		}
	}
}

func TestBuildWithoutPageIsAnError(t *testing.T) {
	_, err := newHandler(fstest.MapFS{"dist/assets/a.js": {Data: []byte("1")}})
	if err == nil || !strings.Contains(err.Error(), "make console") {
		t.Errorf("error %v", err)
	}
}

// inputs are what a build reads; web/scripts/seal.js has the same list.
var inputs = []string{"index.html", "package-lock.json", "package.json", "scripts", "src", "tsconfig.json", "vite.config.js"}

func hashOf(t *testing.T, name string) string {
	t.Helper()
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}

// filesUnder lists the files of dir that are under the given names, by slash
// path from dir.
func filesUnder(t *testing.T, dir string, names ...string) []string {
	t.Helper()
	var out []string
	for _, name := range names {
		err := filepath.WalkDir(filepath.Join(dir, name), func(p string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			rel, err := filepath.Rel(dir, p)
			out = append(out, filepath.ToSlash(rel))
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	slices.Sort(out)
	return out
}

// TestDistIsFresh compares dist/ with its manifest and the manifest with the
// sources, without Node.
func TestDistIsFresh(t *testing.T) {
	var sources strings.Builder
	for _, name := range filesUnder(t, "web", inputs...) {
		fmt.Fprintf(&sources, "%s  %s\n", hashOf(t, filepath.Join("web", name)), name)
	}
	sum := sha256.Sum256([]byte(sources.String()))
	want := "sources " + hex.EncodeToString(sum[:]) + "\n"
	for _, name := range filesUnder(t, "dist", ".") {
		if name != "MANIFEST" {
			want += fmt.Sprintf("%s  %s\n", hashOf(t, filepath.Join("dist", name)), name)
		}
	}
	got, err := os.ReadFile("dist/MANIFEST")
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != want {
		t.Errorf("dist/ is not what web/ builds: run `make console` and commit dist/\nMANIFEST says\n%s\nthe files say\n%s", got, want)
	}
}

// TestLockHasNoAddresses keeps the lock file free of where packages came from.
func TestLockHasNoAddresses(t *testing.T) {
	for _, name := range []string{"package-lock.json", "package.json", ".npmrc"} {
		data, err := os.ReadFile(path.Join("web", name))
		if err != nil {
			t.Fatal(err)
		}
		if m := regexp.MustCompile(`"resolved"|registry\.|\.tgz|git\+|_auth`).Find(data); m != nil {
			t.Errorf("web/%s holds %q", name, m)
		}
	}
	if data, err := os.ReadFile("web/package.json"); err != nil || regexp.MustCompile(`": "[\^~]`).Match(data) {
		t.Errorf("web/package.json has a version that is not exact (%v)", err)
	}
}
