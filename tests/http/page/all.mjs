// All tests of the page, one after the other in one process.

import './draws.mjs';
import './pool.mjs';
import './refusals.mjs';
import './looks.mjs';
