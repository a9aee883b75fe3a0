package units

import "testing"

func TestParseInstance(t *testing.T) {
	for unit, want := range map[string]Instance{
		"shop.service":                      {"shop", 0},
		"shop@1.service":                    {"shop", 1},
		"shop@256.service":                  {"shop", 256},
		"my-shop_2@10.service":              {"my-shop_2", 10},
		"shop":                              {},
		"shop@.service":                     {},
		"shop@0.service":                    {},
		"shop@-1.service":                   {},
		"shop@+1.service":                   {},
		"shop@01.service":                   {},
		"shop@1":                            {},
		"shop@1@2.service":                  {},
		"shop@one.service":                  {},
		"shop@1.socket":                     {},
		"shop@1.service.service":            {},
		"Shop@1.service":                    {},
		"@1.service":                        {},
		"app-rollout@1.service":             {},
		".service":                          {},
		"shop@99999999999999999999.service": {},
	} {
		got, ok := ParseInstance(unit)
		if got != want || ok != (want != Instance{}) {
			t.Errorf("%s: %v, %v, want %v", unit, got, ok, want)
		}
		if ok && got.Unit() != unit {
			t.Errorf("%s becomes %s", unit, got.Unit())
		}
	}
}
