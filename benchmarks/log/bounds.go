package main

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// What no server can do anything about: the driver shares the machine with it, and
// the kernel keeps what is written in memory that it may first have to get. So the
// driver is measured against a broker that keeps nothing; and the kernel gets the
// memory before a cell is run.

// bounds measures and prints them.
func bounds(ctx context.Context, o options, out io.Writer) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintf(w, "a broker that keeps nothing\tproduce rec/s\tMB/s\t(each, rec/s)\tdriver CPU s/GB\tbroker CPU s/GB\n")
	for _, c := range cells {
		var all []figures
		for range o.runs {
			f, err := c.againstNothing(ctx, o)
			if err != nil {
				return fmt.Errorf("a broker that keeps nothing, %v: %w", c, err)
			}
			all = append(all, f)
		}
		in := each(all, func(f figures) float64 { return f.produce })
		fmt.Fprintf(w, "  %v\t%.0f\t%.1f\t(%s)\t%.2f\t%.2f\n", c, median(in), median(in)*float64(c.size)/1e6, words("%.0f", in),
			median(each(all, func(f figures) float64 { return f.driverProduce })), median(each(all, func(f figures) float64 { return f.cpuProduce })))
	}
	if err := w.Flush(); err != nil {
		return err
	}
	first, next, err := pages(o)
	if err != nil {
		return fmt.Errorf("write a file: %w", err)
	}
	fmt.Fprintf(out, "the kernel, for a write to a new file: CPU %.2f s/GB; to another one, after that was removed: %.2f s/GB\n", first, next)
	return nil
}

// againstNothing produces as the cell says to a process that keeps nothing.
func (c cell) againstNothing(ctx context.Context, o options) (f figures, err error) {
	self, err := os.Executable()
	if err != nil {
		return f, err
	}
	dir, err := os.MkdirTemp(o.dir, "weir-bench")
	if err != nil {
		return f, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	s := side{name: "nothing", start: func(ctx context.Context, _, addr string) (*exec.Cmd, error) {
		return exec.CommandContext(ctx, self, "-nothing", addr), nil
	}}
	srv, err := s.run(ctx, dir)
	if err != nil {
		return f, err
	}
	_, err = c.produce(ctx, srv, fmt.Sprintf("bench-%d-%d", c.size, c.partitions), o, &f)
	return f, errors.Join(err, srv.stop())
}

// pages is the CPU time per GB of plain writes to a new file: to the first, and to one
// after that was removed, when the kernel has memory at hand.
func pages(o options) (first, next float64, err error) {
	n := int64(2 << 30)
	if o.short {
		n = 16 << 20
	}
	write := func() (perGB float64, err error) {
		before := ownCPU()
		err = o.touch(n)
		return (ownCPU() - before).Seconds() / (float64(n) / 1e9), err
	}
	if first, err = write(); err == nil {
		next, err = write()
	}
	return first, next, err
}

// touch writes n bytes to a file and removes it. The kernel of a virtual machine may
// have given the memory that it did not need back to the host, and getting a page of
// it again costs many times what it costs to write into it: whoever writes first would
// be charged for that.
func (o options) touch(n int64) (err error) {
	f, err := os.CreateTemp(o.dir, "weir-bench")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close(), os.Remove(f.Name())) }()
	block := make([]byte, 1<<20)
	for at := int64(0); at < n; at += int64(len(block)) {
		if _, err := f.WriteAt(block, at); err != nil {
			return err
		}
	}
	return nil
}

// ownCPU is the CPU time that this process has used, in user and kernel.
func ownCPU() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// nothing is a broker that acknowledges what a producer sends and keeps none of it.
// Every topic exists; the number at the end of its name is that of its partitions.
type nothing struct{ host, port string }

// serveNothing serves at an address until the process is told to end.
func serveNothing(ctx context.Context, addr string) error {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return err
	}
	ln, err := net.Listen("tcp", addr)
	if err != nil {
		return err
	}
	context.AfterFunc(ctx, func() { ln.Close() })
	for {
		conn, err := ln.Accept()
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return err
		}
		context.AfterFunc(ctx, func() { conn.Close() })
		go nothing{host, port}.serve(conn)
	}
}

// serve answers until the client goes. Only versions without tagged fields are
// offered, so that headers are of one kind.
func (n nothing) serve(conn net.Conn) {
	defer conn.Close()
	r := bufio.NewReaderSize(conn, 64<<10)
	var body, out []byte
	for {
		var size [4]byte
		if _, err := io.ReadFull(r, size[:]); err != nil {
			return
		}
		want := int(binary.BigEndian.Uint32(size[:]))
		if want < 10 || want > 100<<20 {
			return
		}
		if cap(body) < want {
			body = make([]byte, want)
		}
		body = body[:want]
		if _, err := io.ReadFull(r, body); err != nil {
			return
		}
		req := kmsg.RequestForKey(int16(binary.BigEndian.Uint16(body)))
		at := 10 + max(0, int(int16(binary.BigEndian.Uint16(body[8:])))) // after the client's id
		if req == nil || at > want {
			return
		}
		req.SetVersion(int16(binary.BigEndian.Uint16(body[2:])))
		resp := n.answer(req, body[at:])
		if resp == nil {
			return
		}
		out = append(out[:0], 0, 0, 0, 0)
		out = append(out, body[4:8]...) // correlation id
		out = resp.AppendTo(out)
		binary.BigEndian.PutUint32(out, uint32(len(out)-4))
		if _, err := conn.Write(out); err != nil {
			return
		}
	}
}

// most are the requests that are answered, with the last version of each.
var most = map[int16]int16{0: 8, 3: 8, 18: 2, 22: 1}

func (n nothing) answer(req kmsg.Request, body []byte) kmsg.Response {
	last, known := most[req.Key()]
	resp := req.ResponseKind()
	if versions, ok := resp.(*kmsg.ApiVersionsResponse); ok {
		if req.GetVersion() > last {
			versions.SetVersion(0)
			versions.ErrorCode = 35 // UNSUPPORTED_VERSION
		}
		for key, version := range most {
			versions.ApiKeys = append(versions.ApiKeys, kmsg.ApiVersionsResponseApiKey{ApiKey: key, MaxVersion: version})
		}
		return versions
	}
	if !known || req.GetVersion() > last || req.ReadFrom(body) != nil {
		return nil
	}
	switch req := req.(type) {
	case *kmsg.InitProducerIDRequest:
		resp.(*kmsg.InitProducerIDResponse).ProducerID = 1
	case *kmsg.MetadataRequest:
		n.metadata(req, resp.(*kmsg.MetadataResponse))
	case *kmsg.ProduceRequest:
		acks := resp.(*kmsg.ProduceResponse)
		for _, t := range req.Topics {
			st := kmsg.ProduceResponseTopic{Topic: t.Topic}
			for _, p := range t.Partitions {
				st.Partitions = append(st.Partitions, kmsg.ProduceResponseTopicPartition{Partition: p.Partition, LogAppendTime: -1})
			}
			acks.Topics = append(acks.Topics, st)
		}
	}
	return resp
}

func (n nothing) metadata(req *kmsg.MetadataRequest, resp *kmsg.MetadataResponse) {
	port, _ := strconv.Atoi(n.port) // it was listened on
	resp.Brokers = []kmsg.MetadataResponseBroker{{NodeID: 1, Host: n.host, Port: int32(port)}}
	resp.ControllerID = 1
	for _, t := range req.Topics {
		st := kmsg.MetadataResponseTopic{Topic: t.Topic}
		partitions, err := strconv.Atoi((*t.Topic)[strings.LastIndexByte(*t.Topic, '-')+1:])
		if err != nil {
			partitions = 1
		}
		for i := range partitions {
			st.Partitions = append(st.Partitions, kmsg.MetadataResponseTopicPartition{Partition: int32(i), Leader: 1, Replicas: []int32{1}, ISR: []int32{1}})
		}
		resp.Topics = append(resp.Topics, st)
	}
}
