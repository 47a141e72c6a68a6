// `std::format`, where the compiler comes without it (gcc before 13). The C interface of MLX words errors of file streams
// with it, which we have none of: the text stays, without the values.
#pragma once
#include <string>
#if __has_include(<format>)
#include <format>
#else
namespace std {
template <typename... Values>
string format(const char* text, const Values&...) {
  return text;
}
}  // namespace std
#endif
