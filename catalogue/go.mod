module github.com/pikarc/server/catalogue

go 1.26.0

require github.com/pikarc/server v0.0.0

replace github.com/pikarc/server => ../
