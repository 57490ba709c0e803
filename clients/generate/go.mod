module github.com/pikarc/server/clients/generate

go 1.26
