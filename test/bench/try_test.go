//go:build bench

package bench

import "testing"

func TestTryGenerator(t *testing.T) {
	p := &page{t: t, dir: t.TempDir()}
	p.generator()
	t.Log(p.text.String())
}
func TestTryGrowth(t *testing.T) {
	p := &page{t: t, dir: t.TempDir()}
	p.growth()
	t.Log(p.text.String())
}
func TestTryPeers(t *testing.T) {
	p := &page{t: t, dir: "/tmp/vmtry/out"}
	b := newBed(t)
	seen := b.peers()
	p.deploys(seen)
	p.between(seen)
	p.badDeploys(seen)
	p.steps(seen)
	p.pictures(seen)
	t.Log(p.text.String())
	t.Log(p.better)
}
