// What compilers make of namespaces, templates, lambdas, local classes, nested
// inlining and the standard library.
#include <algorithm>
#include <cstdio>
#include <map>
#include <string>
#include <vector>

namespace shapes {
struct Point {
	int a;
	explicit Point(int x) : a(x) {}
	__attribute__((noinline)) int sum(int k) const
	{
		int s = 0;
		for (int i = 0; i < k; i++)
			s += a * i;
		return s;
	}
};
static inline int twice(const Point &p) { return p.sum(p.a) * 2; }
template <typename T> __attribute__((noinline)) T largest(std::vector<T> v)
{
	std::sort(v.begin(), v.end(), [](const T &x, const T &y) { return x > y; });
	return v.front();
}
} // namespace shapes

namespace {
__attribute__((noinline)) int hidden(int x)
{
	struct Local {
		int f;
		__attribute__((noinline)) int times(int y) { return f * y + shapes::twice(shapes::Point(y)); }
	};
	Local l{x};
	std::vector<int> v;
	for (int i = 0; i < x; i++)
		v.push_back(l.times(i));
	return shapes::largest(v);
}
} // namespace

extern "C" int plain(int x)
{
	std::map<int, std::string> m;
	try {
		for (int i = 0; i < x; i++)
			m[i] = std::to_string(i);
		if (m.at(x - 1).empty())
			throw 1;
	} catch (...) {
		return 0;
	}
	return (int)m.size() + hidden(x);
}

int main(int argc, char **argv) { printf("%s %d\n", argv[0], plain(argc + 3)); }
