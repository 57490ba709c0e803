module github.com/pikarc/server/clients/suite

go 1.26.0
