module github.com/pikarc/server/clients/suite

go 1.26.0

require github.com/pikarc/server/clients/go v1.0.0

replace github.com/pikarc/server/clients/go => ../go
