package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"path/filepath"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/weirstream/weir/ingest/schema"
	"github.com/weirstream/weir/log/vfs"
)

// versionsFile holds the versions of the streams' declarations in the data directory.
const versionsFile = "schemas.json"

// versionsMax is how many versions of a stream are kept: the latest.
const versionsMax = 1000

// versions are the declarations that streams have had, oldest first, by their names.
// A stream that is no longer declared keeps its versions: its topic has its records.
type versions map[string][]schema.Version

// loadVersions reads the versions, none where there is no file yet.
func loadVersions(fsys vfs.FS, dir string) (versions, error) {
	path := filepath.Join(dir, versionsFile)
	data, err := vfs.ReadFile(fsys, path)
	if errors.Is(err, fs.ErrNotExist) {
		return versions{}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("versions of the streams: %w", err)
	}
	v := versions{}
	if err := json.Unmarshal(data, &v); err != nil {
		return nil, fmt.Errorf("versions of the streams: %s: %w (it may be removed: the streams as they are declared now become their first versions)", path, err)
	}
	return v, nil
}

// check is what keeps the streams' declarations from following their latest versions.
func (v versions) check(streams []*schema.Stream) (problems schema.Problems) {
	for _, s := range streams {
		if all := v[s.Schema.Stream]; len(all) > 0 {
			problems = append(problems, schema.Compatible(all[len(all)-1], s)...)
		}
	}
	return problems
}

// add notes the declarations that are new, and tells whether there are any.
func (v versions) add(streams []*schema.Stream, now time.Time) (changed bool) {
	for _, s := range streams {
		name, next := s.Schema.Stream, schema.VersionOf(s)
		all := v[name]
		if len(all) > 0 && all[len(all)-1].Same(next) {
			continue
		}
		next.Version, next.Since = 1, now.UTC()
		if len(all) > 0 {
			next.Version = all[len(all)-1].Version + 1
		}
		if all = append(all, next); len(all) > versionsMax {
			all = all[len(all)-versionsMax:]
		}
		v[name], changed = all, true
	}
	return changed
}

// save writes the versions, durably.
func (v versions) save(fsys vfs.FS, dir string) error {
	data, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err
	}
	return vfs.WriteFile(fsys, filepath.Join(dir, versionsFile), append(data, '\n'))
}

// openVersions notes the declarations that take effect with this start.
func (n *Node) openVersions() error {
	v, err := loadVersions(vfs.OS, n.cfg.DataDir)
	if err != nil {
		return err
	}
	// Another process may have had the directory since Prepare.
	if err := v.check(n.streams()).ErrOrNil(); err != nil {
		return err
	}
	n.streamVersions.Store(&v)
	return n.noteVersions(n.streams())
}

func (n *Node) registerVersions(api huma.API) {
	huma.Register(api, huma.Operation{OperationID: "stream-versions", Method: http.MethodGet, Path: "/v1/streams/{name}/versions",
		Summary: "The declarations that a stream has had, oldest first"},
		func(_ context.Context, in *struct {
			Name string `path:"name"`
		}) (*answer[[]schema.Version], error) {
			all, ok := n.versions()[in.Name]
			if !ok {
				return nil, huma.Error404NotFound(fmt.Sprintf("there is no stream %q: %s", in.Name, n.streamHint(in.Name)))
			}
			return &answer[[]schema.Version]{all}, nil
		})
}
