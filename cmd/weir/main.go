// Command weir is the appliance and its clients in one binary.
package main

import (
	"os"

	"github.com/weirstream/weir/cmd/cli"
)

func main() { os.Exit(cli.Main(os.Args[1:], os.Stdin, os.Stdout, os.Stderr)) }
