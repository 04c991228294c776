// SPDX-License-Identifier: Apache-2.0

package vm_test

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// errUnreachable says that Debian's mirror did not give what was asked for,
// and that it is not in the cache.
var errUnreachable = errors.New("the kernels of Debian's suites cannot be had")

// apt is apt with a state of its own: the machine's sources and lists stay as
// they are.
type apt struct {
	dir     string // for its state and the kernels
	options []string
}

// download returns the paths of the kernels' images by their names. They are
// kept in the user's cache. The newest of each suite is taken, or, if the
// mirror cannot be reached, what is in the cache.
func download(ks []kernel) (map[string]string, error) {
	a, err := newApt(cacheFor("kernels"), ks)
	if err != nil {
		return nil, err
	}
	var names []string
	_, updateErr := a.run("apt-get", "update", "-q", "--error-on=any")
	if updateErr == nil {
		out, err := a.run("apt-cache", "pkgnames", "linux-")
		if err != nil {
			return nil, err
		}
		names = strings.Fields(string(out))
	}
	images := map[string]string{}
	for i := range ks {
		k := &ks[i]
		if images[k.name], err = a.image(k, names); err != nil {
			return nil, fmt.Errorf("%w: %s: %w", errUnreachable, k.name, errors.Join(err, updateErr))
		}
	}
	return images, nil
}

// cacheFor is a folder of the user's cache.
func cacheFor(what string) string {
	cache, err := os.UserCacheDir()
	if err != nil {
		cache = os.TempDir()
	}
	return filepath.Join(cache, "srprof-test", what)
}

func newApt(dir string, ks []kernel) (*apt, error) {
	a := &apt{dir: dir}
	sources, err := a.sources(ks)
	if err != nil {
		return nil, err
	}
	for _, d := range []string{"state/lists/partial", "cache/archives/partial"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
			return nil, err
		}
	}
	list := filepath.Join(dir, "sources.list")
	for file, text := range map[string]string{list: sources, filepath.Join(dir, "status"): ""} {
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			return nil, err
		}
	}
	for _, o := range []string{
		"Dir::State=" + filepath.Join(dir, "state"), "Dir::State::status=" + filepath.Join(dir, "status"),
		"Dir::Cache=" + filepath.Join(dir, "cache"), "Dir::Etc::sourcelist=" + list, "Dir::Etc::sourceparts=-",
		"APT::Architectures::=amd64", "APT::Architectures::=arm64", "Acquire::Languages=none", "Acquire::Retries=2",
		"APT::Sandbox::User=",              // as whoever runs the tests, also in a folder of theirs
		"Acquire::Check-Valid-Until=false", // suites at the end of their life are what we want
		"APT::Update::Post-Invoke-Success=", "APT::Update::Post-Invoke=",
		"Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=false", // what desktops add
	} {
		a.options = append(a.options, "-o", o)
	}
	return a, nil
}

// mirrors are those of Debian that the machine uses.
func mirrors() (main, security string, err error) {
	out, err := exec.Command("apt-get", "indextargets", "--format", "$(RELEASE) $(REPO_URI)", "Created-By: Packages", "Origin: Debian").Output()
	if err != nil {
		return "", "", fmt.Errorf("find the machine's Debian mirror: %w", err)
	}
	for line := range strings.Lines(string(out)) {
		suite, uri, _ := strings.Cut(strings.TrimSpace(line), " ")
		if strings.HasSuffix(suite, "-security") {
			security = uri
		} else {
			main = uri
		}
	}
	if main == "" {
		return "", "", fmt.Errorf("%w: none of the machine's apt sources is Debian's", errUnreachable)
	}
	if security == "" {
		security = strings.TrimSuffix(main, "/") + "-security"
	}
	return main, security, nil
}

// sources are lines for the suites, at the mirrors that the machine uses.
func (a *apt) sources(ks []kernel) (string, error) {
	main, security, err := mirrors()
	if err != nil {
		return "", err
	}
	arches := map[string][]string{} // by suite
	for _, k := range ks {
		arches[k.suite] = append(arches[k.suite], k.arch)
	}
	var lines strings.Builder
	for _, suite := range slices.Sorted(maps.Keys(arches)) {
		uri := main
		if strings.HasSuffix(suite, "-security") {
			uri = security
		}
		fmt.Fprintf(&lines, "deb [arch=%s] %s %s main\n", strings.Join(arches[suite], ","), uri, suite)
	}
	return lines.String(), nil
}

func (a *apt) run(command string, args ...string) ([]byte, error) {
	c := exec.Command(command, append(slices.Clone(a.options), args...)...)
	c.Dir = a.dir
	var stderr bytes.Buffer
	c.Stderr = &stderr
	out, err := c.Output()
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w: %s", command, strings.Join(args, " "), err, &stderr)
	}
	return out, nil
}

// image returns the image of the newest package that there is of a kernel.
func (a *apt) image(k *kernel, names []string) (string, error) {
	pattern := regexp.MustCompile("^" + k.pattern + "$")
	names = slices.DeleteFunc(slices.Clone(names), func(n string) bool { return !pattern.MatchString(n) })
	slices.SortFunc(names, func(x, y string) int { return compareVersions(y, x) })
	var errs []error
	for _, name := range names[:min(2, len(names))] { // one may be listed and gone
		path, err := a.unpacked(k, name)
		if err == nil {
			return path, nil
		}
		errs = append(errs, err)
	}
	if len(names) == 0 {
		errs = append(errs, fmt.Errorf("%s has no package %s", k.suite, k.pattern))
	}
	cached, err := filepath.Glob(filepath.Join(a.dir, "linux-*.vmlinuz"))
	if err != nil {
		return "", err
	}
	cached = slices.DeleteFunc(cached, func(p string) bool {
		return !pattern.MatchString(strings.TrimSuffix(filepath.Base(p), ".vmlinuz"))
	})
	if len(cached) > 0 {
		return slices.MaxFunc(cached, compareVersions), nil
	}
	return "", errors.Join(errs...)
}

var number = regexp.MustCompile(`\d+`)

// compareVersions compares the numbers in two names.
func compareVersions(a, b string) int {
	as, bs := number.FindAllString(a, -1), number.FindAllString(b, -1)
	return slices.CompareFunc(as, bs, func(x, y string) int {
		if len(x) != len(y) {
			return len(x) - len(y)
		}
		return strings.Compare(x, y)
	})
}

// unpacked returns a package's image, which it downloads unless it has it.
func (a *apt) unpacked(k *kernel, name string) (string, error) {
	to := filepath.Join(a.dir, name+".vmlinuz")
	if _, err := os.Stat(to); err == nil {
		return to, nil
	}
	temporary, err := os.MkdirTemp(a.dir, "unpack-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(temporary)
	if _, err := a.run("apt-get", "-o", "Dir::Cache::archives="+temporary, "download", "-q", name+":"+k.arch); err != nil {
		return "", err
	}
	debs, err := filepath.Glob(filepath.Join(a.dir, name+"_*.deb"))
	if err != nil || len(debs) != 1 {
		return "", fmt.Errorf("apt-get download %s left %d files (%v)", name, len(debs), err)
	}
	defer os.Remove(debs[0])
	whole := filepath.Join(temporary, "vmlinuz")
	if err := unpack(debs[0], whole); err != nil {
		return "", err
	}
	old, err := filepath.Glob(filepath.Join(a.dir, "linux-*.vmlinuz"))
	if err != nil {
		return "", err
	}
	for _, o := range old { // those that are no longer the newest
		if regexp.MustCompile(k.pattern).MatchString(filepath.Base(o)) {
			os.Remove(o)
		}
	}
	return to, os.Rename(whole, to)
}

// unpack takes the kernel's image out of a package.
func unpack(deb, to string) error {
	c := exec.Command("dpkg-deb", "--fsys-tarfile", deb)
	out, err := c.StdoutPipe()
	if err != nil {
		return err
	}
	if err := c.Start(); err != nil {
		return err
	}
	defer func() {
		out.Close() // the rest is not wanted
		_ = c.Wait()
	}()
	for t := tar.NewReader(out); ; {
		h, err := t.Next()
		if err != nil {
			return fmt.Errorf("%s has no kernel image: %w", deb, err)
		}
		if base := path.Base(h.Name); h.Typeflag != tar.TypeReg || base != "vmlinuz" && !strings.HasPrefix(base, "vmlinuz-") {
			continue
		}
		f, err := os.Create(to)
		if err != nil {
			return err
		}
		_, err = io.Copy(f, t)
		return errors.Join(err, f.Close())
	}
}
