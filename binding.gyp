# Native targets. node-gyp builds them into build/Release; lib/native.ts finds them (prebuilt first).
{
  'variables': {
    # The kqueue backend on Linux: over a libkqueue that these two name (a folder with sys/event.h, a linker's
    # argument), or over the emulation of the tests (scripts/build-kqueue.mjs).
    'kqueue_include%': '',
    'kqueue_library%': '',
    'kqueue_emulation%': 'false',
    # Everything of the backends and nothing of JavaScript, for native tests.
    'poller_sources': [
      'native/poller/poller.cc',
      'native/poller/poll.cc',
      'native/wakeup.cc',
      'native/descriptors.cc',
      'native/pretend.cc',
      'native/forked.cc',
    ],
    'emulation_sources': [
      'test/native/kqueue/emulation.cc',
      'test/native/kqueue/emulation_filters.cc',
      'test/native/kqueue/emulation_events.cc',
      'test/native/kqueue/emulation_signals.cc',
    ],
    # Whether to build what a fork needs of V8: not against a C++ library that is not Node's (scripts/prebuilds.mjs).
    'v8%': 'true',
    # The shim is prebuilt apart, with another C library.
    'shim%': 'true',
    # Whether it has its C library in itself, as the prebuilt ones have: a third of the memory, and half of its pages, are
    # the dynamic linker's otherwise. Not by default: tests preload what makes its calls fail.
    'shim_static%': 'false',
    # LeakSanitizer's hand brake, for scripts/sanitize.mjs.
    'leak_check%': 'false',
    # The package brings its binaries along and has no install script. Package managers that start node-gyp all the
    # same (they see this file and do not know "gypfile") must find nothing to do, or a machine without a compiler
    # could not install it. Our own scripts pass true.
    'build_from_source%': 'false',
    'prebuilt%': '<!(node -e "import(\'./dist/native.js\').then((native) => native.prebuilt()).then(console.log, () => console.log(false))")',
  },
  'target_defaults': {
    'conditions': [
      ['build_from_source!="true" and prebuilt=="true"', { 'type': 'none', 'sources/': [['exclude', '.*']] }],
      # Node unloads an addon with the last environment that loaded it, a Worker's maybe, while handlers that it
      # registered for the process's end, for forks and for signals stay: so it stays, too.
      ['OS!="mac"', { 'ldflags': ['-Wl,-z,nodelete'] }],
    ],
    'include_dirs': ["<!(node -p \"require('node-addon-api').include_dir\")", 'native'],
    'defines': [
      'NAPI_VERSION=9',
      'NODE_ADDON_API_DISABLE_CPP_EXCEPTIONS',
      'NODE_API_SWALLOW_UNTHROWABLE_EXCEPTIONS',
    ],
    'cflags': ['-fvisibility=hidden', '-Wall', '-Wextra', '-Werror', '-Wno-unused-parameter'],
    'cflags_cc!': ['-std=gnu++17', '-fno-exceptions'],
    'cflags_cc': ['-std=c++20', '-fno-exceptions', '-fno-rtti'],
    'xcode_settings': {
      'CLANG_CXX_LANGUAGE_STANDARD': 'c++20',
      'GCC_ENABLE_CPP_EXCEPTIONS': 'NO',
      'GCC_SYMBOLS_PRIVATE_EXTERN': 'YES',
      'MACOSX_DEPLOYMENT_TARGET': '11.0',
      'OTHER_CFLAGS': ['-Wall', '-Wextra', '-Werror', '-Wno-unused-parameter'],
    },
  },
  'targets': [
    {
      'target_name': 'forkbeard',
      'sources': [
        '<@(poller_sources)',
        'native/addon.cc',
        'native/drive.cc',
        'native/loop.cc',
        'native/spawn.cc',
        'native/spawn/child.cc',
        'native/spawn/request.cc',
        'native/spawn/start.cc',
        'native/signals.cc',
        'native/signals/environment.cc',
        'native/signals/handler.cc',
        'native/signals/subscription.cc',
        'native/child.cc',
        'native/child/ending.cc',
        'native/child/libuv.cc',
        'native/child/queue.cc',
        'native/fork.cc',
        'native/lifeline.cc',
        'native/lineage.cc',
        'native/memory.cc',
        'native/process_table.cc',
        'native/fork/detached.cc',
        'native/fork/handles.cc',
        'native/fork/moment.cc',
        'native/fork/output.cc',
        'native/fork/process.cc',
        'native/fork/threads.cc',
        'native/fork/unlisted.cc',
        'native/sys.cc',
        'native/sys/address.cc',
        'native/sys/descriptors.cc',
        'native/sys/messages.cc',
        'native/sys/options.cc',
        'native/sys/process.cc',
        'native/sys/sockets.cc',
        'native/sys/transfer.cc',
      ],
      'conditions': [
        ['OS=="linux"', { 'sources': ['native/poller/epoll.cc'] }],
        ['OS in "mac freebsd openbsd netbsd"', { 'sources': ['native/poller/kqueue.cc'] }],
        ['kqueue_include!=""', {
          'sources': ['native/poller/kqueue.cc'],
          'defines': ['FORKBEARD_KQUEUE'],
          'include_dirs': ['<(kqueue_include)'],
          'libraries': ['<(kqueue_library)'],
        }],
        ['kqueue_emulation=="true"', {
          'sources': ['native/poller/kqueue.cc', '<@(emulation_sources)'],
          'defines': ['FORKBEARD_KQUEUE'],
          'include_dirs': ['test/native/kqueue'],
          'ldflags': ['-Wl,--wrap=close'],
        }],
      ],
    },
  ],
  'conditions': [
    # Stays beside each supervised service. A program of its own, with nothing of Node's in it.
    ['shim=="true" and (build_from_source=="true" or prebuilt!="true")', {
      'targets': [
        {
          'target_name': 'forkbeard-shim',
          'type': 'executable',
          # node-gyp's, for addons. This name is a difference.
          'defines!': ['NODE_GYP_MODULE_NAME=>(_target_name)'],
          'sources': [
            'native/shim/allowance.cc',
            'native/shim/main.cc',
            'native/shim/plan.cc',
            'native/shim/shim.cc',
            'native/shim/traces.cc',
            'native/shim/tree.cc',
            'native/shim/wire.cc',
            'native/descriptors.cc',
            'native/pretend.cc',
            'native/process_table.cc',
            'native/spawn/child.cc',
            'native/spawn/request.cc',
          ],
          'conditions': [
            # The C++ library's few functions come along, so that there is nothing to look for at its start.
            ['OS=="linux"', { 'ldflags': ['-static-libstdc++', '-static-libgcc', '-Wl,--gc-sections'] }],
            ['OS=="linux" and shim_static=="true"', { 'ldflags': ['-static'] }],
          ],
          'cflags': ['-ffunction-sections', '-fdata-sections'],
        },
      ],
    }],
    # What a fork needs to know of V8. Its slots belong to one Node ABI, so it is built for each.
    ['OS=="linux" and v8=="true"', {
      'targets': [
        {
          'target_name': 'forkbeard_v8',
          'sources': [
            'native/v8/addon.cc',
            'native/v8/heap_pages.cc',
            'native/v8/heap_places.cc',
            'native/v8/imports.cc',
            'native/v8/interrupts.cc',
            'native/v8/math_random.cc',
            'native/v8/platform.cc',
            'native/v8/self.cc',
            'native/v8/worker_pool.cc',
          ],
          # Headers of Node's and V8's, by whose warnings we are not judged.
          'cflags_cc!': ['-std=c++20'],
          'cflags_cc': [
            '-std=gnu++20',
            '-fno-exceptions',
            '-fno-rtti',
            '-Wno-deprecated-declarations',
            '-Wno-cast-function-type',
          ],
        },
      ],
    }],
    ['kqueue_emulation=="true"', {
      'targets': [
        {
          'target_name': 'kqueue_emulation_test',
          'type': 'executable',
          'sources': [
            '<@(emulation_sources)',
            'test/native/kqueue/emulation_test.cc',
            'test/native/kqueue/emulation_descriptors_test.cc',
            'test/native/kqueue/emulation_kinds_test.cc',
          ],
          'include_dirs': ['test/native/kqueue'],
          'ldflags': ['-Wl,--wrap=close', '-pthread'],
        },
        {
          'target_name': 'kqueue_backend_test',
          'type': 'executable',
          'sources': [
            '<@(poller_sources)',
            'native/poller/epoll.cc',
            'native/poller/kqueue.cc',
            '<@(emulation_sources)',
            'test/native/kqueue/backend_test.cc',
          ],
          'defines': ['FORKBEARD_KQUEUE'],
          'include_dirs': ['test/native/kqueue'],
          'ldflags': ['-Wl,--wrap=close', '-pthread'],
        },
      ],
    }],
    ['leak_check=="true"', {
      'targets': [{ 'target_name': 'leak_check', 'sources': ['test/native/leak_check.cc'] }],
    }],
  ],
}
