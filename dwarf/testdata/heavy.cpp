// As much debug information as one source of this size can make.
#include "calls.cpp"
#include <functional>
#include <future>
#include <regex>
#include <set>
#include <sstream>
#include <thread>
#include <unordered_map>

bool match(const std::string &s, const std::string &p) { return std::regex_match(s, std::regex(p)); }

int maps(int n)
{
	std::unordered_map<std::string, std::set<int>> m;
	for (int i = 0; i < n; i++) {
		std::ostringstream o;
		o << i;
		m[o.str()].insert(i);
	}
	return (int)m.size();
}

int later(int n)
{
	auto f = std::async(std::launch::async, [n] { return maps(n); });
	return f.get();
}
