package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// side is one server in one setting.
type side struct {
	name  string
	fsync string            // when it syncs, in words
	topic map[string]string // configs beside those of all sides
	start func(ctx context.Context, dir, addr string) (*exec.Cmd, error)
}

// server is a running side.
type server struct {
	pid   int
	addr  string
	ready time.Duration // from its start to its first answers
	stop  func() error
	kill  func() error

	readyCPU time.Duration // that it had used then
}

// readyWithin bounds the start of a server.
const readyWithin = time.Minute

func weirSide(binary string) side {
	return side{name: "weir", fsync: "before each ack (default)", start: func(ctx context.Context, dir, addr string) (*exec.Cmd, error) {
		return exec.CommandContext(ctx, binary, "run", "--data-dir", filepath.Join(dir, "data"),
			"--kafka-addr", addr, "--http-addr", "127.0.0.1:0", "--sql-addr", "127.0.0.1:0"), nil
	}}
}

func kafkaSides(jars string) []side {
	k := kafka{jars: jars}
	return []side{
		{name: "kafka", fsync: "left to the system (default)", start: k.start},
		{name: "kafka fsync", fsync: "before each ack (flush.messages=1)", topic: map[string]string{"flush.messages": "1"}, start: k.start},
	}
}

// kafka is one node of Apache Kafka, broker and controller, with the JVM options
// of its own start script.
type kafka struct{ jars string }

var kafkaJVM = []string{"-Xms1G", "-Xmx1G", "-server", "-XX:+UseG1GC", "-XX:MaxGCPauseMillis=20", "-XX:InitiatingHeapOccupancyPercent=35",
	"-XX:+ExplicitGCInvokesConcurrent", "-XX:MaxInlineLevel=15", "-Djava.awt.headless=true"}

func (k kafka) start(ctx context.Context, dir, addr string) (*exec.Cmd, error) {
	controller, err := freeAddress()
	if err != nil {
		return nil, err
	}
	conf := filepath.Join(dir, "server.properties")
	text := strings.Join([]string{
		"process.roles=broker,controller", "node.id=1", "controller.quorum.voters=1@" + controller,
		"listeners=PLAINTEXT://" + addr + ",CONTROLLER://" + controller, "advertised.listeners=PLAINTEXT://" + addr,
		"controller.listener.names=CONTROLLER", "listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT",
		"log.dirs=" + filepath.Join(dir, "data"),
		"offsets.topic.replication.factor=1", "transaction.state.log.replication.factor=1", "transaction.state.log.min.isr=1",
	}, "\n")
	if err := os.WriteFile(conf, []byte(text+"\n"), 0o600); err != nil {
		return nil, err
	}
	path := filepath.Join(k.jars, "*")
	format := exec.CommandContext(ctx, "java", "-cp", path, "kafka.tools.StorageTool", "format", "--ignore-formatted", "-t", "d2VpciBiZW5jaG1hcms1NQ", "-c", conf)
	if out, err := format.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("format: %w\n%s", err, out)
	}
	args := append(append([]string(nil), kafkaJVM...), "-cp", path, "kafka.Kafka", conf)
	return exec.CommandContext(ctx, "java", args...), nil
}

var kafkaJar = regexp.MustCompile(`^kafka_2\.13-(.+)\.jar$`)

// version is that of the server's jar.
func (k kafka) version() (string, error) {
	entries, err := os.ReadDir(k.jars)
	if err != nil {
		return "", err
	}
	for _, e := range entries {
		if m := kafkaJar.FindStringSubmatch(e.Name()); m != nil {
			return m[1], nil
		}
	}
	return "", fmt.Errorf("no kafka_2.13 jar in %s", k.jars)
}

// run starts the side in dir and waits until it answers ApiVersions and Metadata.
func (s side) run(ctx context.Context, dir string) (*server, error) {
	addr, err := freeAddress()
	if err != nil {
		return nil, err
	}
	cmd, err := s.start(ctx, dir, addr)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", s.name, err)
	}
	output, err := os.Create(filepath.Join(dir, "output"))
	if err != nil {
		return nil, err
	}
	cmd.Stdout, cmd.Stderr = output, output
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	began := time.Now()
	if err := cmd.Start(); err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w", s.name, err), output.Close())
	}
	srv := &server{pid: cmd.Process.Pid, addr: addr,
		stop: func() error { return errors.Join(end(cmd), output.Close()) },
		kill: func() error { return errors.Join(kill(cmd), output.Close()) },
	}
	deadline, cancel := context.WithTimeout(ctx, readyWithin)
	defer cancel()
	for {
		err := answers(addr)
		if err == nil {
			srv.ready = time.Since(began)
			if srv.readyCPU, err = cpuTime(srv.pid); err != nil {
				return nil, errors.Join(err, srv.stop())
			}
			return srv, nil
		}
		select {
		case <-time.After(time.Millisecond):
		case <-deadline.Done():
			out, _ := os.ReadFile(output.Name()) // for the message
			return nil, errors.Join(fmt.Errorf("%s is not ready after %v: %w\n%s", s.name, readyWithin, err, out), srv.stop())
		}
	}
}

// end asks a process to end and waits for it.
func end(cmd *exec.Cmd) error {
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return errors.Join(err, cmd.Wait())
	}
	err := cmd.Wait()
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.ExitCode() == 128+int(syscall.SIGTERM) {
		return nil // how a JVM says that it was asked to end
	}
	return err
}

// kill ends a process as a crash does.
func kill(cmd *exec.Cmd) error {
	if err := cmd.Process.Kill(); err != nil {
		return errors.Join(err, cmd.Wait())
	}
	err := cmd.Wait()
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.Sys().(syscall.WaitStatus).Signal() == syscall.SIGKILL {
		return nil
	}
	return err
}

// answers asks a server who it is and what it leads.
func answers(addr string) error {
	conn, err := net.DialTimeout("tcp", addr, time.Second)
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(5 * time.Second)); err != nil {
		return err
	}
	versions := kmsg.NewPtrApiVersionsRequest()
	if err := ask(conn, versions); err != nil {
		return err
	}
	metadata := kmsg.NewPtrMetadataRequest()
	metadata.Version = 1
	metadata.Topics = []kmsg.MetadataRequestTopic{}
	return ask(conn, metadata)
}

func ask(conn net.Conn, req kmsg.Request) error {
	if _, err := conn.Write(kmsg.NewRequestFormatter().AppendRequest(nil, req, 1)); err != nil {
		return err
	}
	var size [4]byte
	if _, err := io.ReadFull(conn, size[:]); err != nil {
		return err
	}
	body := make([]byte, binary.BigEndian.Uint32(size[:]))
	if _, err := io.ReadFull(conn, body); err != nil {
		return err
	}
	resp := req.ResponseKind()
	if err := resp.ReadFrom(body[4:]); err != nil {
		return err
	}
	if m, ok := resp.(*kmsg.MetadataResponse); ok && len(m.Brokers) == 0 {
		return errors.New("metadata without a broker")
	}
	return nil
}

// freeAddress is a loopback address that was free a moment ago.
func freeAddress() (string, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer ln.Close()
	return ln.Addr().String(), nil
}
