module github.com/pikarc/server/tests/ha

go 1.26
