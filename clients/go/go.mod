module github.com/pikarc/server/clients/go

go 1.24
