// Renders the templates of a Helm chart by Go's template engine and Sprig, which Helm itself is made of, with the functions that Helm
// adds and the chart uses.
//
//	render CHART VALUES.yaml...   the chart's own values are read first, later files go before earlier ones
package main

import (
	"errors"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"strings"
	"text/template"

	"github.com/Masterminds/sprig"
	"github.com/ghodss/yaml"
)

func merge(into, from map[string]interface{}) {
	for key, value := range from {
		if below, ok := value.(map[string]interface{}); ok {
			if there, ok := into[key].(map[string]interface{}); ok {
				merge(there, below)
				continue
			}
		}
		into[key] = value
	}
}

func main() {
	log.SetFlags(0)
	chart, values := os.Args[1], map[string]interface{}{}
	for _, file := range append([]string{filepath.Join(chart, "values.yaml")}, os.Args[2:]...) {
		text, err := os.ReadFile(file)
		if err != nil {
			log.Fatal(err)
		}
		read := map[string]interface{}{}
		if err := yaml.Unmarshal(text, &read); err != nil {
			log.Fatalf("%s: %v", file, err)
		}
		merge(values, read)
	}
	functions := sprig.TxtFuncMap()
	functions["toYaml"] = func(value interface{}) (string, error) {
		text, err := yaml.Marshal(value)
		return strings.TrimSuffix(string(text), "\n"), err
	}
	functions["required"] = func(why string, value interface{}) (interface{}, error) {
		if value == nil || value == "" {
			return nil, errors.New(why)
		}
		return value, nil
	}
	files, err := filepath.Glob(filepath.Join(chart, "templates", "*.yaml"))
	if err != nil || len(files) == 0 {
		log.Fatalf("no templates in %s: %v", chart, err)
	}
	for _, file := range files {
		// A value that is missing is empty, as for Helm.
		page, err := template.New(filepath.Base(file)).Funcs(functions).Option("missingkey=zero").ParseFiles(file)
		if err != nil {
			log.Fatal(err)
		}
		if err := page.Execute(os.Stdout, map[string]interface{}{"Values": values}); err != nil {
			log.Fatal(err)
		}
		fmt.Println()
	}
}
