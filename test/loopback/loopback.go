package loopback

import (
	"fmt"
	"os"
	"runtime"
)

// Any is an address of this process for net.Listen, with any free port. Only Linux has
// all of 127.0.0.0/8 without being asked to; elsewhere it is everyone's.
func Any() string {
	if runtime.GOOS != "linux" {
		return "127.0.0.1:0"
	}
	pid := os.Getpid() // below 1<<22
	return fmt.Sprintf("127.%d.%d.%d:0", 64+pid>>16, pid>>8&0xff, pid&0xff)
}
