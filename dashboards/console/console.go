package console

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"fmt"
	"io/fs"
	"mime"
	"net/http"
	"path"
	"strconv"
	"strings"
)

//go:embed all:dist
var dist embed.FS

// policy is the page's content security policy. Charts and lists place
// themselves through the style object model, which style-src 'self' permits.
const policy = "default-src 'self'; object-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; font-src 'self'; connect-src 'self'; " +
	"base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"

const (
	cacheForever = "public, max-age=31536000, immutable"
	cacheNever   = "no-cache" // stored, but asked for again by its ETag
)

// Handler serves the page at "/", its parts under "/assets/" and the licences of
// what it is built from at "/licences.txt"; any other path is 404. Built files that have a .gz beside them are sent compressed to clients
// that accept it.
func Handler() http.Handler {
	h, err := newHandler(dist)
	if err != nil {
		panic(err) // dist is part of the binary
	}
	return h
}

// asset is one file of the build, ready to send.
type asset struct {
	mediaType string
	cache     string
	etag      string
	plain     []byte
	gzip      []byte // nil where compressing does not pay
}

type handler struct{ assets map[string]asset } // by URL path

func newHandler(files fs.FS) (*handler, error) {
	h := &handler{assets: map[string]asset{}}
	err := fs.WalkDir(files, "dist", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || strings.HasSuffix(name, ".gz") {
			return err
		}
		url := "/" + strings.TrimPrefix(name, "dist/")
		cache := cacheForever
		switch {
		case url == "/index.html":
			url, cache = "/", cacheNever
		case url == "/licences.txt":
			cache = cacheNever
		case !strings.HasPrefix(url, "/assets/"):
			return nil // the manifest is not for clients
		}
		a, err := readAsset(files, name)
		if err != nil {
			return err
		}
		a.cache = cache
		h.assets[url] = a
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("console: reading the built page: %w", err)
	}
	if _, ok := h.assets["/"]; !ok {
		return nil, fmt.Errorf("console: dist/index.html is missing; `make console` builds it")
	}
	return h, nil
}

func readAsset(files fs.FS, name string) (asset, error) {
	plain, err := fs.ReadFile(files, name)
	if err != nil {
		return asset{}, err
	}
	a := asset{plain: plain, mediaType: mediaType(name)}
	if zipped, err := fs.ReadFile(files, name+".gz"); err == nil {
		a.gzip = zipped
	}
	sum := sha256.Sum256(plain)
	a.etag = hex.EncodeToString(sum[:12])
	return a, nil
}

// mediaType does not ask the machine's mime table first: it differs between
// machines, and nosniff makes a wrong type fatal.
func mediaType(name string) string {
	switch ext := path.Ext(name); ext {
	case ".html":
		return "text/html; charset=utf-8"
	case ".js":
		return "text/javascript; charset=utf-8"
	case ".css":
		return "text/css; charset=utf-8"
	case ".svg":
		return "image/svg+xml"
	case ".woff2":
		return "font/woff2"
	case ".txt":
		return "text/plain; charset=utf-8"
	default:
		if t := mime.TypeByExtension(ext); t != "" {
			return t
		}
		return "application/octet-stream"
	}
}

func (h *handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	header := w.Header()
	header.Set("Content-Security-Policy", policy)
	header.Set("X-Content-Type-Options", "nosniff")
	header.Set("X-Frame-Options", "DENY")
	header.Set("Referrer-Policy", "no-referrer")
	header.Set("Cross-Origin-Opener-Policy", "same-origin")
	header.Set("Cross-Origin-Resource-Policy", "same-origin")
	a, ok := h.assets[r.URL.Path]
	if !ok {
		http.Error(w, "there is nothing at "+strconv.Quote(r.URL.Path)+"; the console is at /, the API under /v1", http.StatusNotFound)
		return
	}
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		header.Set("Allow", "GET, HEAD")
		http.Error(w, "only GET and HEAD", http.StatusMethodNotAllowed)
		return
	}
	a.send(w, r)
}

func (a *asset) send(w http.ResponseWriter, r *http.Request) {
	header := w.Header()
	header.Set("Content-Type", a.mediaType)
	header.Set("Cache-Control", a.cache)
	body, etag := a.plain, a.etag
	if a.gzip != nil {
		header.Set("Vary", "Accept-Encoding")
		if acceptsGzip(r.Header.Get("Accept-Encoding")) {
			header.Set("Content-Encoding", "gzip")
			body, etag = a.gzip, a.etag+"-gzip"
		}
	}
	etag = strconv.Quote(etag)
	header.Set("ETag", etag)
	for tag := range strings.SplitSeq(r.Header.Get("If-None-Match"), ",") {
		if tag = strings.TrimSpace(tag); strings.TrimPrefix(tag, "W/") == etag || tag == "*" {
			header.Del("Content-Encoding")
			w.WriteHeader(http.StatusNotModified)
			return
		}
	}
	header.Set("Content-Length", strconv.Itoa(len(body)))
	if r.Method == http.MethodGet {
		// A client that went away is no one's error.
		_, _ = bytes.NewReader(body).WriteTo(w)
	}
}

// acceptsGzip reads an Accept-Encoding header: gzip or *, unless its q is 0
// (RFC 9110, section 12.5.3).
func acceptsGzip(accept string) bool {
	any := false
	for part := range strings.SplitSeq(accept, ",") {
		coding, params, _ := strings.Cut(strings.TrimSpace(part), ";")
		coding = strings.ToLower(strings.TrimSpace(coding))
		if coding != "gzip" && coding != "*" {
			continue
		}
		refused := false
		if q, ok := strings.CutPrefix(strings.ToLower(strings.ReplaceAll(params, " ", "")), "q="); ok {
			v, err := strconv.ParseFloat(q, 64)
			refused = err != nil || v == 0
		}
		if coding == "gzip" {
			return !refused
		}
		any = !refused
	}
	return any
}
