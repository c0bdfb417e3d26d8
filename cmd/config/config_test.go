package config

import "testing"

func TestDemo(t *testing.T) {
	d := Default()
	t.Log(d.String())
	c, err := Load("../demo/config/weir.yaml")
	if err != nil {
		t.Fatal(err)
	}
	t.Log(c.String())
}
