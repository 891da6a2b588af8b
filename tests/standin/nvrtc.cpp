// A stand-in for libnvrtc.so.12: compiles CUDA source with the host's C++ compiler and the header
// cuda_on_cpu.hpp into a shared object. What it hands back as "cubin" or "PTX" is a small text that
// names that object, for the driver stand-in to load. Objects are kept in STANDIN_CACHE, by
// content.
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <functional>
#include <regex>
#include <sstream>
#include <string>
#include <sys/stat.h>
#include <unistd.h>
#include <vector>

namespace {

struct Program {
    std::string name, source, log, image;
    std::vector<std::pair<std::string, std::string>> headers;
};

std::string read(const std::string& path) {
    std::ifstream file(path);
    std::stringstream text;
    text << file.rdbuf();
    return text.str();
}

struct Found {
    std::string name, bounds;  // bounds: "256, 2", or "" where there are none
};

/// The `__global__` functions, in order.
std::vector<Found> kernels(const std::string& source) {
    std::vector<Found> all;
    for (size_t at = 0; (at = source.find("extern \"C\" __global__", at)) != std::string::npos;) {
        Found found;
        size_t begin = source.find("void", at) + 4;
        size_t bounds = source.find("__launch_bounds__", begin), end = source.find('(', begin);
        if (bounds < end) {  // skip its parentheses
            size_t open = end;
            int depth = 0;
            do depth += source[end] == '(' ? 1 : source[end] == ')' ? -1 : 0;
            while (++end, depth);
            found.bounds = source.substr(open + 1, end - open - 2);
            begin = end;
            end = source.find('(', begin);
        }
        found.name = source.substr(begin, end - begin);
        found.name.erase(0, found.name.find_first_not_of(" \n"));
        all.push_back(found);
        at = end;
    }
    return all;
}

/// "test.cu:2:14: error: …" as NVRTC writes it: "test.cu(2): error: …".
std::string as_nvrtc_writes(const std::string& log) {
    return std::regex_replace(log, std::regex("(\\.cuh?):([0-9]+):[0-9]+:"), "$1($2):");
}

const char* setting(const char* name, const char* otherwise) {
    const char* value = getenv(name);
    return value ? value : otherwise;
}

}  // namespace

extern "C" {

enum { SUCCESS = 0, INVALID_INPUT = 3, COMPILATION = 6 };

const char* nvrtcGetErrorString(int code) {
    return code == SUCCESS ? "success" : code == COMPILATION ? "compilation" : "invalid input";
}
#ifndef MAJOR
#define MAJOR 12
#endif
int nvrtcVersion(int* major, int* minor) { return *major = MAJOR, *minor = 9, SUCCESS; }

// As the real one, version 13 begins later than version 12 does.
#if MAJOR == 12
static const int ARCHITECTURES[] = {70, 75, 80, 86, 89, 90};
#else
static const int ARCHITECTURES[] = {75, 80, 86, 89, 90};
#endif
int nvrtcGetNumSupportedArchs(int* count) {
    return *count = sizeof ARCHITECTURES / sizeof *ARCHITECTURES, SUCCESS;
}
int nvrtcGetSupportedArchs(int* list) {
    return memcpy(list, ARCHITECTURES, sizeof ARCHITECTURES), SUCCESS;
}

int nvrtcCreateProgram(Program** out, const char* source, const char* name, int count,
                       const char* const* headers, const char* const* names) {
    *out = new Program{name, source, "", "", {}};
    for (int i = 0; i < count; i++) (*out)->headers.push_back({names[i], headers[i]});
    return SUCCESS;
}
int nvrtcDestroyProgram(Program** program) { return delete *program, *program = nullptr, SUCCESS; }

int nvrtcCompileProgram(Program* program, int count, const char* const* options) {
    std::string flags = setting("STANDIN_CXXFLAGS", "");
    for (int i = 0; i < count; i++) {
        if (!strncmp(options[i], "-D", 2)) flags += std::string(" '") + options[i] + "'";
    }
    std::string text = "#include \"cuda_on_cpu.hpp\"\n#line 1 \"" + program->name + "\"\n" +
                       program->source;
    for (const auto& [name, bounds] : kernels(program->source)) {
        std::string most = bounds.empty() ? "1024" : "standin::first_bound(" + bounds + ")";
        text += "\nstatic standin::Register register_" + name + "(\"" + name + "\", " + name + ", " +
                most + ");";
    }
    if (getenv("STANDIN_TIMELINE")) {
        program->image = "stand-in constants";
        for (int i = 0; i < count; i++) {
            if (!strncmp(options[i], "-D", 2)) program->image += std::string(" ") + options[i];
        }
        return SUCCESS;
    }
    std::string all = text + flags + read(STANDIN_FOLDER "/cuda_on_cpu.hpp");
    for (auto& header : program->headers) all += header.first + header.second;

    std::string folder = setting("STANDIN_CACHE", "/tmp");
    char key[32];
    snprintf(key, sizeof key, "/%016zx", std::hash<std::string>()(all));
    std::string object = folder + key + ".so";
    if (access(object.c_str(), R_OK) != 0) {
        std::string work = folder + key + "-" + std::to_string(getpid());
        mkdir(work.c_str(), 0777);
        for (auto& [name, text] : program->headers) std::ofstream(work + "/" + name) << text;
        std::ofstream(work + "/kernel.cpp") << text;
        std::string command = std::string(STANDIN_COMPILER) +
            " -std=c++17 -O3 -march=native -ffp-contract=off -fno-strict-aliasing -fPIC -shared -g1"
            " -Wno-unknown-pragmas -fno-math-errno -I" STANDIN_FOLDER " -I" + work + flags +
            " -o " + work + "/kernel.so " + work + "/kernel.cpp >" + work + "/log 2>&1";
        int status = system(command.c_str());
        program->log = as_nvrtc_writes(read(work + "/log"));
        if (status == 0) rename((work + "/kernel.so").c_str(), object.c_str());
        if (system(("rm -r " + work).c_str()) != 0) return INVALID_INPUT;
        if (status != 0) return COMPILATION;
    }
    program->image = "stand-in object " + object;
    return SUCCESS;
}

static int give(const std::string& text, char* out) {
    return memcpy(out, text.c_str(), text.size() + 1), SUCCESS;
}
int nvrtcGetCUBINSize(Program* p, size_t* size) { return *size = p->image.size() + 1, SUCCESS; }
int nvrtcGetCUBIN(Program* p, char* out) { return give(p->image, out); }
int nvrtcGetPTXSize(Program* p, size_t* size) { return *size = p->image.size() + 1, SUCCESS; }
int nvrtcGetPTX(Program* p, char* out) { return give(p->image, out); }
int nvrtcGetProgramLogSize(Program* p, size_t* size) { return *size = p->log.size() + 1, SUCCESS; }
int nvrtcGetProgramLog(Program* p, char* out) { return give(p->log, out); }
}
