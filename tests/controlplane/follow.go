// An ordinary program that follows its configuration file: viper with fsnotify, used as their documentation shows.

package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"

	"github.com/fsnotify/fsnotify"
	"github.com/magiconair/properties"
	"github.com/spf13/viper"
)

const followAbout = `controlplane follow [--format FORMAT] FILE

Prints the settings in FILE as one JSON object on one line, first at the start (when this line is out, FILE is being
watched) and then after each change, until standard input ends. Keys come out in lower case, as viper keeps them.`

func follow(args []string) error {
	fs := flagSet("follow", followAbout)
	format := fs.String("format", "", "yaml, json, toml, env (KEY=value lines) or properties; the file's extension if not given")
	if err := fs.Parse(args); err != nil {
		return err
	}
	if fs.NArg() != 1 {
		return fmt.Errorf("give one file")
	}

	codecs := viper.NewCodecRegistry()
	if err := codecs.RegisterCodec("properties", propertiesCodec{}); err != nil {
		return err
	}
	v := viper.NewWithOptions(viper.WithCodecRegistry(codecs))
	v.SetConfigFile(fs.Arg(0))
	v.SetConfigType(*format)
	if err := v.ReadInConfig(); err != nil {
		return err
	}
	atStart := v.AllSettings()
	changes := make(chan map[string]any)
	v.OnConfigChange(func(fsnotify.Event) { changes <- v.AllSettings() })
	v.WatchConfig() // returns when the watch is there

	ctx, cancel := lifetime()
	defer cancel()
	atEndOfInput(cancel)
	out := json.NewEncoder(os.Stdout)
	for settings := atStart; ; {
		if err := out.Encode(settings); err != nil {
			return err
		}
		select {
		case settings = <-changes:
		case <-ctx.Done():
			return nil
		}
	}
}

// propertiesCodec lets viper read Java properties, which it no longer does by itself.
type propertiesCodec struct{}

func (propertiesCodec) Decode(text []byte, into map[string]any) error {
	parsed, err := properties.Load(text, properties.UTF8)
	if err != nil {
		return err
	}
	for key, value := range parsed.Map() {
		into[key] = value
	}
	return nil
}

func (propertiesCodec) Encode(map[string]any) ([]byte, error) {
	return nil, errors.New("properties are only read here")
}
